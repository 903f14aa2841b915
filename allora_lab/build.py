"""The builder: a method's key and plain settings in, an adapted model out."""

from collections.abc import Sequence

import torch
from torch import nn

from allora_lab.adapters.inject import replace_layers
from allora_lab.adapters.precision import cast_adapters, keep_trained_in_float32
from allora_lab.adapters.targets import find_targets
from allora_lab.checks import (
    require_at_least,
    require_eta_squared,
    require_kind,
    require_positive,
    require_probability,
)
from allora_lab.method import AdapterSettings, Method
from allora_lab.methods import DEFAULT_ETA_SQUARED, get_method


def resolve_settings(
    method: Method,
    *,
    r: int,
    lora_alpha: float | None,
    lora_dropout: float | None,
    eta_squared: float | None,
    generator: torch.Generator | None = None,
) -> AdapterSettings:
    """Return what a method is built from.

    A lora_alpha of None means r, so that LoRA's s is 1; a lora_dropout of None the method's own.

    An eta_squared of None is 4, `DEFAULT_ETA_SQUARED`.

    Raises
    ------
    ValueError
        If lora_alpha is given to a method that has no α, or a value is out of range.
    """
    if lora_alpha is not None and not method.reads_lora_alpha:
        raise ValueError(f"{method.key} does not use lora_alpha: leave it out")
    alpha = float(r) if lora_alpha is None else float(lora_alpha)
    if lora_alpha is not None:
        require_positive("lora_alpha", alpha)
    require_kind("r", r, int, "a whole number")
    require_at_least("r", r, 1)
    is_given = eta_squared is not None
    eta_squared = DEFAULT_ETA_SQUARED if eta_squared is None else eta_squared
    dropout = method.lora_dropout if lora_dropout is None else lora_dropout
    require_probability("lora_dropout", dropout)
    require_eta_squared(eta_squared)
    return AdapterSettings(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        eta_squared=float(eta_squared),
        is_eta_squared_given=is_given,
        generator=generator,
    )


def inject_adapters(
    model: nn.Module,
    method: str,
    *,
    r: int = 8,
    lora_alpha: float | None = None,
    lora_dropout: float | None = None,
    eta_squared: float | None = None,
    target_modules: Sequence[str] | str | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Replace the matching linear layers of `model` by adapted ones, in place, and return it.

    The pretrained weights are frozen; A, B (and DoRA's m) train, and so does a classification head
    named `classifier` or `score`.  Names match as in PEFT.  Until `merge_adapters` the model cannot be
    saved by `save_pretrained`, which would write names that `from_pretrained` does not know.

    Parameters
    ----------
    method
        A key of `allora_lab.METHODS`.
    r
        Rank of every update, from 1 to the smaller side of the layer.
    lora_alpha
        α of LoRA, rsLoRA and DoRA; None means α = r, so that LoRA's scaling is 1, as ALLoRA's is.
    lora_dropout
        Dropout on the input of A; None means the method's own, 0.05 for `allora-dropout` and 0 for
        the others.
    eta_squared
        η² of the ALLoRA family; None means 4, and methods that do not read it ignore it.  For
        "allora-update" it is what `wrap_optimizer` uses.
    target_modules
        Names, a regular expression for the whole name, or "all-linear".  None adapts the queries and
        values of the model's family, as PEFT's default does: query and value of BERT, q_proj and
        v_proj of Llama, c_attn of GPT-2.
    generator
        Source of A's random start; None uses torch's global one.
    dtype
        Type of the adapters.  None means float32 for them and the head, also where the model's weights
        are bfloat16 or float16 (float64 where they are float64): see `adapters.precision`.

    Raises
    ------
    ValueError
        For an unknown method, a value out of range, a target that matches no linear layer, or a model
        that is already adapted.  The model is left as it was.
    """
    row = get_method(method)
    if dtype is not None and not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating-point type such as torch.float32, got {dtype}")
    settings = resolve_settings(
        row,
        r=r,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        eta_squared=eta_squared,
        generator=generator,
    )
    targets = find_targets(model, target_modules, r=r)
    replace_layers(model, targets, lambda layer: row.build(layer, settings))
    return keep_trained_in_float32(model) if dtype is None else cast_adapters(model, dtype)
