"""The table of methods: key, label, what it builds, which settings it reads, where it is from.

A new method is one file in `adapters/`, one row here and one row in the contract test.
"""

import math
from collections.abc import Callable

from torch import nn

from allora_lab.adapters.allora import ALLoRALinear
from allora_lab.adapters.allora_od import ALLoRAODLinear
from allora_lab.adapters.allora_update import wrap_optimizer
from allora_lab.adapters.asf_lora import ASFLoRALinear
from allora_lab.adapters.base import AdaptedLinear, AdaptiveLinear
from allora_lab.adapters.dora import DoRALinear
from allora_lab.adapters.lora import LoRALinear
from allora_lab.adapters.update_layer import ALLoRAUpdateLinear
from allora_lab.checks import require_known
from allora_lab.method import AdapterSettings, Method
from allora_lab.rank_methods import RANK_METHODS

DEFAULT_ETA_SQUARED = 4.0


def _lora(layer: nn.Module, settings: AdapterSettings, scaling: float) -> LoRALinear:
    return LoRALinear(
        layer,
        r=settings.r,
        scaling=scaling,
        lora_dropout=settings.lora_dropout,
        generator=settings.generator,
    )


def _dora(layer: nn.Module, settings: AdapterSettings) -> DoRALinear:
    return DoRALinear(
        layer,
        r=settings.r,
        scaling=settings.lora_alpha / settings.r,
        lora_dropout=settings.lora_dropout,
        generator=settings.generator,
    )


def _allora_update(layer: nn.Module, settings: AdapterSettings) -> ALLoRAUpdateLinear:
    return ALLoRAUpdateLinear(
        layer,
        r=settings.r,
        eta_squared=settings.eta_squared,
        is_eta_squared_given=settings.is_eta_squared_given,
        lora_dropout=settings.lora_dropout,
        generator=settings.generator,
    )


def _adaptive(
    layer_class: type[AdaptiveLinear],
) -> Callable[[nn.Module, AdapterSettings], AdaptedLinear]:
    return lambda layer, settings: layer_class(
        layer,
        r=settings.r,
        eta_squared=settings.eta_squared,
        lora_dropout=settings.lora_dropout,
        generator=settings.generator,
    )


METHODS: dict[str, Method] = {
    method.key: method
    for method in (
        Method(
            key="lora",
            label="LoRA",
            colour="#0072B2",
            source="Hu et al. 2021, arXiv 2106.09685",
            build=lambda layer, s: _lora(layer, s, s.lora_alpha / s.r),
            reads_lora_alpha=True,
        ),
        Method(
            key="lora-fixed-scale",
            label="LoRA × η",
            colour="#56B4E9",
            source="ALLoRA §5.2, arXiv 2410.09692",
            build=lambda layer, s: _lora(layer, s, math.sqrt(s.eta_squared)),
            reads_eta_squared=True,
        ),
        Method(
            key="rslora",
            label="rsLoRA",
            colour="#8C8C8C",
            source="Kalajdzievski 2023, arXiv 2312.03732",
            build=lambda layer, s: _lora(layer, s, s.lora_alpha / math.sqrt(s.r)),
            reads_lora_alpha=True,
        ),
        Method(
            key="dora",
            label="DoRA",
            colour="#009E73",
            source="Liu et al. 2024, arXiv 2402.09353",
            build=_dora,
            reads_lora_alpha=True,
            is_gradient_natural=False,  # §4.3 holds the row norms constant in the backward pass
        ),
        Method(
            key="allora",
            label="ALLoRA",
            colour="#D55E00",
            source="arXiv 2410.09692, §4.2",
            build=_adaptive(ALLoRALinear),
            reads_eta_squared=True,
            scales_rate=True,
            is_gradient_natural=False,
        ),
        Method(
            key="allora-dropout",
            label="ALLoRA + dropout",
            colour="#A0522D",
            source="arXiv 2410.09692, ALLoRA+D; 'ALLoRA' in the ICLR submission",
            build=_adaptive(ALLoRALinear),
            reads_eta_squared=True,
            scales_rate=True,
            lora_dropout=0.05,
            is_gradient_natural=False,
        ),
        Method(
            key="allora-od",
            label="ALLoRA-OD",
            colour="#E69F00",
            source="arXiv 2410.09692, §4.3",
            build=_adaptive(ALLoRAODLinear),
            reads_eta_squared=True,
            scales_rate=True,
            is_gradient_natural=False,
        ),
        Method(
            key="asf-lora",
            label="ASF-LoRA",
            colour="#4B1D6B",
            source="arXiv 2410.09692, §4.3",
            build=_adaptive(ASFLoRALinear),
            reads_eta_squared=True,
        ),
        Method(
            key="allora-update",
            label="ALLoRA on the update (ours)",
            colour="#CC79A7",
            source="this project's own form; in no paper",
            build=_allora_update,
            reads_eta_squared=True,
            scales_rate=True,
            wrap_optimizer=wrap_optimizer,
        ),
        *RANK_METHODS,
    )
}


def get_method(key: str) -> Method:
    """Return the row of a method key.

    Raises
    ------
    ValueError
        For an unknown key, naming the nearest one.  A bare `alora` is refused, for one dropped
        letter of `allora` must not run another paper's method.
    """
    if key.lower() == "alora":
        raise ValueError(
            "method 'alora' is ambiguous: write 'allora' for the adaptive learning rate "
            "(arXiv 2410.09692), 'alora-ablation' for allocating ranks (ALoRA, arXiv 2403.16187); "
            "activated LoRA (PEFT's 'alora') is not in this table"
        )
    require_known("method", key, METHODS)
    return METHODS[key]
