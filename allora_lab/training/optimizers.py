"""Optimizers, learning rates for adapters and head, and schedules with warm-up."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from transformers.optimization import Adafactor

from allora_lab.adapters.targets import is_in_head


@dataclass(frozen=True, kw_only=True)
class OptimizerInfo:
    """One row of the table: how to build it, its default rate, and what it does to a scale.

    `is_scale_free` says that the step does not change when every gradient is multiplied by a
    constant, which is why ALLoRA as published hardly differs from LoRA under it.
    """

    build: Callable[[list[dict[str, Any]], float], Optimizer]
    default_lr: float
    is_scale_free: bool
    label: str


OPTIMIZERS: dict[str, OptimizerInfo] = {
    "sgd": OptimizerInfo(
        build=lambda groups, decay: SGD(groups, momentum=0.9, weight_decay=decay),
        default_lr=0.1,
        is_scale_free=False,
        label="SGD",
    ),
    "adamw": OptimizerInfo(
        build=lambda groups, decay: AdamW(groups, weight_decay=decay),
        default_lr=1e-3,
        is_scale_free=True,
        label="AdamW",
    ),
    # Hugging Face's Trainer builds it so.  With scale_parameter a tensor that starts at zero, as B
    # does, would be given 1/1000 of the rate.
    "adafactor": OptimizerInfo(
        build=lambda groups, decay: Adafactor(
            groups, scale_parameter=False, relative_step=False, weight_decay=decay
        ),
        default_lr=1e-3,
        is_scale_free=True,
        label="Adafactor",
    ),
}

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda _progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
}


def rate_factor(step: int, *, steps: int, warmup_steps: int, schedule: str) -> float:
    """Return what multiplies the learning rates at `step` (0 to steps - 1).

    A linear rise (step + 1) / warmup_steps, then the schedule from 1 at the end of the warm-up.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return SCHEDULES[schedule]((step - warmup_steps) / max(1, steps - warmup_steps))


def build_optimizer(
    key: str,
    model: nn.Module,
    *,
    lr: float,
    head_lr: float,
    weight_decay: float,
    without: Collection[str] = (),
) -> Optimizer:
    """Return the optimizer of a model's trainable parameters, the head in a group of its own.

    SGD has momentum 0.9; AdamW and Adafactor have the defaults of torch and transformers.  Each
    group keeps its rate as `initial_lr`, which a schedule multiplies.  Tensors named in `without`
    are left out, for something else to step.
    """
    named = [
        (n, p)
        for n, p in model.named_parameters()
        if p.requires_grad and n.rpartition(".")[2] not in without
    ]
    head = [p for n, p in named if is_in_head(n)]
    adapters = [p for n, p in named if not is_in_head(n)]
    groups = [
        {"params": parameters, "lr": rate, "initial_lr": rate}
        for parameters, rate in ((adapters, lr), (head, head_lr))
        if parameters
    ]
    return OPTIMIZERS[key].build(groups, weight_decay)
