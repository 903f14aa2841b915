"""Which rows of a layer's output the logits read at all.

A classifier reads the first token of the last block, a masked token is read by nobody, and what
nobody reads need not be computed.  Rows with no gradient are candidates; they count as unread only
if large random values in their place leave the logits as they were, to the last bit.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from allora_lab.allocation.recording import Forward, forwards

NOISE = 100.0  # far outside what a layer gives, far inside what float32 holds
WORTH_IT = 0.9  # above this share of rows read, picking them out costs more than it saves

Rows = dict[str, Int[Tensor, " read"]]  # by layer, the places of the rows read, examples first


def _is_read(
    model: nn.Module, inputs: Mapping[str, Tensor], instead: Mapping[str, Forward]
) -> dict[str, Tensor]:
    """Return, by layer, for each row (token) of its output whether the logits have a gradient there."""
    outputs: dict[str, Tensor] = {}

    def tapped(name: str, forward: Forward) -> Forward:
        def run(x: Tensor) -> Tensor:
            y = forward(x)
            outputs[name] = y if y.requires_grad else y.requires_grad_()
            return outputs[name]

        return run

    with torch.enable_grad(), forwards(model, {n: tapped(n, f) for n, f in instead.items()}):
        logits = model(**inputs).logits.float()
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
        of = list(outputs.values())
        gradients = torch.autograd.grad((logits * weights.to(logits)).sum(), of, allow_unused=True)
    return {
        name: torch.zeros(y.shape[:-1], dtype=torch.bool, device=y.device)
        if g is None
        else (g != 0).any(dim=-1)
        for (name, y), g in zip(outputs.items(), gradients, strict=True)
    }


def rows_read(
    model: nn.Module, inputs: Mapping[str, Tensor], instead: Mapping[str, Forward], logits: Tensor
) -> Rows:
    """Return, for the layers of `instead` that compute rows nobody reads, the rows that are read.

    `logits` are those of the model with `instead`.  A layer is left out when nearly all its rows
    are read; all are, when noise in the unread rows moves the logits.
    """
    read = _is_read(model, inputs, instead)
    partly = {n: r for n, r in read.items() if r.float().mean() < WORTH_IT}
    generator = torch.Generator().manual_seed(1)

    def noisy(forward: Forward, is_read: Tensor) -> Forward:
        def run(x: Tensor) -> Tensor:
            y = forward(x)
            noise = NOISE * torch.randn(y.shape, generator=generator)
            return torch.where(is_read[..., None], y, noise.to(y))

        return run

    with (
        torch.no_grad(),
        forwards(model, {**instead, **{n: noisy(instead[n], r) for n, r in partly.items()}}),
    ):
        disturbed = model(**inputs).logits
    if not torch.equal(disturbed, logits):
        return {}
    return {name: is_read.flatten().nonzero().flatten() for name, is_read in partly.items()}


def only_rows(
    weight: Tensor, bias: Tensor | None, rows: Tensor | None, copies: Callable[[], int]
) -> Forward:
    """Return x W^T + b for the rows read alone, zero elsewhere; `rows` None computes every row.

    The input holds `copies()` copies of the batch whose rows are counted.
    """

    def whole(x: Tensor) -> Tensor:
        return F.linear(x, weight, bias)

    def run(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        each = len(flat) // copies()
        starts = torch.arange(copies(), device=x.device)[:, None] * each
        places = (starts + rows).flatten()
        y = x.new_zeros(len(flat), weight.shape[0])
        y[places] = F.linear(flat[places], weight, bias)
        return y.reshape(*x.shape[:-1], -1)

    return whole if rows is None else run
