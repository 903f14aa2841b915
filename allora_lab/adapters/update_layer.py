r"""The layer of allora-update, and the warning that its optimizer was not wrapped.

    y = W x + b + B A dropout(x)

This is plain LoRA with s = 1: the method acts on the optimizer's step (see `allora_update`).  A run
whose optimizer was not wrapped looks as one of LoRA does; so it warns after its first step.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from allora_lab.adapters.lora import LoRALinear
from allora_lab.checks import require_eta_squared


@dataclass(frozen=True)
class Factors:
    """The factors A (r, d_in) and B (d_out, r) of one update, and what is known of their method.

    `eta_squared` is the η² asked for where the adapter was made, None if none was; `is_scaled` says
    that its gradients carry the coefficient already; `source` is what holds these two settings.
    """

    name: str
    lora_A: nn.Parameter  # noqa: N815
    lora_B: nn.Parameter  # noqa: N815
    eta_squared: float | None
    is_scaled: bool
    source: Any


def mark_as_rescaled(*factors: nn.Parameter) -> None:
    """Note at A and B that a wrapped optimizer holds them."""
    for factor in factors:
        factor.is_rescaled = True


def warn_unless_rescaled(factor: nn.Parameter, how: str) -> None:
    """Warn once if a factor is stepped while no wrapped optimizer holds it.

    A step is recognised at the next backward pass: the factor was changed in place since the last one.
    `how` is the call that wraps the optimizer, for the UserWarning.
    """

    def check(reached: Tensor) -> None:
        before = getattr(reached, "version_at_backward", reached._version)
        reached.version_at_backward = reached._version
        if before == reached._version or getattr(reached, "is_rescaled", False):
            return
        if not getattr(reached, "is_told", False):
            reached.is_told = True
            warnings.warn(
                "allora-update acts on the optimizer's step, and no optimizer is wrapped, so this "
                f"trains plain LoRA: before training, call optimizer = {how}",
                UserWarning,
                stacklevel=2,
            )

    factor.register_post_accumulate_grad_hook(check)


class ALLoRAUpdateLinear(LoRALinear):
    """A plain LoRA layer with s = 1 whose steps a wrapped optimizer rescales; η² is `eta_squared`.

    `is_eta_squared_given` is False while η² is only a default, which the wrapper may replace.

    Raises
    ------
    ValueError
        If eta_squared is not above 0 and at most 1e6, besides what `AdaptedLinear` refuses.
    """

    def __init__(
        self,
        base_layer: nn.Module,
        *,
        r: int,
        eta_squared: float,
        is_eta_squared_given: bool = True,
        lora_dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        require_eta_squared(eta_squared)
        super().__init__(
            base_layer, r=r, scaling=1.0, lora_dropout=lora_dropout, generator=generator
        )
        self.eta_squared, self.is_eta_squared_given = eta_squared, is_eta_squared_given
        warn_unless_rescaled(self.lora_B, "wrap_optimizer(optimizer, model)")
