"""The rows of the methods that move ranks: ALoRA with its scores, SoRA and AdaLoRA."""

from collections.abc import Callable
from typing import Any

from torch import nn

from allora_lab.adapters.adalora import AdaLoRALinear
from allora_lab.adapters.base import AdaptedLinear
from allora_lab.adapters.gated import GatedLinear
from allora_lab.adapters.relaxed_gate import RelaxedGateLinear
from allora_lab.adapters.sora import SoRALinear
from allora_lab.allocation.allocator import Allocator
from allora_lab.allocation.proximal import ProximalGates
from allora_lab.allocation.scores import (
    AblationScore,
    MagnitudeScore,
    RandomScore,
    RankScore,
    RelaxedGateScore,
    SensitivityScore,
)
from allora_lab.allocation.settings import HookContext
from allora_lab.allocation.singular_values import SingularValueBudget
from allora_lab.method import AdapterSettings, Method


def _gated(
    layer_class: type[GatedLinear],
) -> Callable[[nn.Module, AdapterSettings], AdaptedLinear]:
    return lambda layer, settings: layer_class(
        layer,
        r=settings.r,
        scaling=settings.lora_alpha / settings.r,
        lora_dropout=settings.lora_dropout,
        generator=settings.generator,
    )


ROUNDS = ("rank_budget", "ranks_moved", "rounds", "first_round", "round_every")


def _allocating(
    key: str,
    label: str,
    colour: str,
    source: str,
    score: Callable[[HookContext], RankScore],
    reads: tuple[str, ...] = (),
    layer_class: type[GatedLinear] = GatedLinear,
    **more: Any,
) -> Method:
    """Return the row of Algorithm 1 with one rule that scores ranks."""
    return Method(
        key=key,
        label=label,
        colour=colour,
        source=source,
        build=_gated(layer_class),
        reads_lora_alpha=True,
        build_hook=lambda context: Allocator(context, score),
        hook_settings=(*ROUNDS, *reads),
        **more,
    )


RANK_METHODS: tuple[Method, ...] = (
    _allocating(
        "alora-ablation",
        "ALoRA",
        "#B22222",
        "arXiv 2403.16187, §3.2 and §3.3",
        AblationScore,
        ("score_size", "copies"),
    ),
    _allocating(
        "alora-dnas",
        "ALoRA-DNAS",
        "#2E8B57",
        "arXiv 2403.16187, §3.3 and Table 6",
        RelaxedGateScore,
        ("gate_lr",),
        RelaxedGateLinear,
        own_parameters=("lora_gate_logit",),
        splits_train=True,
    ),
    _allocating(
        "alora-sensitivity",
        "ALoRA-Sensi",
        "#F06292",
        "arXiv 2403.16187, Table 6; Zhang et al. 2023, arXiv 2303.10512",
        SensitivityScore,
    ),
    _allocating(
        "alora-magnitude",
        "ALoRA by magnitude",
        "#B8860B",
        "a check of ours; in no paper",
        MagnitudeScore,
    ),
    _allocating(
        "alora-random",
        "ALoRA at random",
        "#A9A9A9",
        "a check of ours; in no paper",
        RandomScore,
    ),
    Method(
        key="sora",
        label="SoRA",
        colour="#241B4E",
        source="Ding et al. 2023, arXiv 2311.11696",
        build=_gated(SoRALinear),
        reads_lora_alpha=True,
        build_hook=ProximalGates,
        hook_settings=("gate_penalty", "gate_threshold"),
    ),
    Method(
        key="adalora",
        label="AdaLoRA",
        colour="#17A2B8",
        source="Zhang et al. 2023, arXiv 2303.10512",
        build=_gated(AdaLoRALinear),
        reads_lora_alpha=True,
        build_hook=SingularValueBudget,
        hook_settings=("rank_budget", "first_round", "round_every", "orthogonality"),
        allocation_ends=0.5,
    ),
)
