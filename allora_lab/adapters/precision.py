"""Adapters in float32 on pretrained weights in bfloat16, as QLoRA and PEFT keep them.

A step of lr × gradient is often less than 2⁻⁸ of the value it is added to, and bfloat16, with its 8
bits, would round it away.  So A, B, DoRA's m and the head are float32 with float32 gradients and
optimizer state (PEFT: `autocast_adapter_dtype=True`).  We differ from PEFT in the forward pass: it
computes x A in float32, and keeps a float32 copy of x for that; here A and B are rounded to the type
of x, as autocast does, so that no activation is kept twice.  The head computes in float32.
"""

from typing import Any

import torch
from torch import Tensor, nn

from allora_lab.adapters.inject import adapted_layers, own_tensors
from allora_lab.adapters.targets import HEADS


def _widened(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.float() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)


def keep_trained_in_float32(model: nn.Module) -> nn.Module:
    """Make what an adapted model trains, and all of its adapters, float32, in place; return it.

    `inject_adapters` and `load_peft` call it.  A model in float32 stays as it is, bit for bit.  In one
    of bfloat16 a head takes its input as float32 from then on; A has been rounded to bfloat16 once,
    when it was drawn, as in PEFT, and DoRA's m is that of the rounded W.
    """
    own = own_tensors(model).values()
    narrow = [t for t in own if t.is_floating_point() and t.dtype.itemsize < 4]
    for tensor in narrow:
        tensor.data = tensor.data.to(torch.float32)
    if narrow:
        for name, module in model.named_modules():
            parts = name.split(".")
            if parts[-1] in HEADS and not set(parts[:-1]) & set(HEADS):  # the outermost of a head
                module.register_forward_pre_hook(_widened)
    return model


def cast_adapters(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Make the adapters of a model `dtype`, in place, and return it; the head stays as it is."""
    inside = tuple(f"{name}." for name in adapted_layers(model))
    for name, tensor in own_tensors(model).items():
        if name.startswith(inside) and tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    return model
