"""Which rows of a layer's output the logits read at all.

A classifier reads the first token of the last block, a masked token is read by nobody, and what
nobody reads need not be computed.  Rows with no gradient are candidates; they count as unread only
if large random values in their place leave the logits as they were, to the last bit, whatever stands
in the other rows.
"""

from collections.abc import Callable, Mapping

import torch
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
        logits = model(**inputs).logits
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
        of = list(outputs.values())
        total = (logits * weights.to(logits)).sum() + sum(0 * y.sum() for y in of)
        gradients = torch.autograd.grad(total, of) if of else ()
    return {n: (g != 0).any(dim=-1) for n, g in zip(outputs, gradients, strict=True)}


def _disturbed(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    instead: Mapping[str, Forward],
    read: Mapping[str, Tensor],
    unread_seed: int,
    read_seed: int | None = None,
) -> Tensor:
    """Return the logits with noise in every unread row, and with `read_seed` some in the read ones."""
    of_unread = torch.Generator().manual_seed(unread_seed)
    of_read = torch.Generator().manual_seed(read_seed or 0)

    def noisy(forward: Forward, is_read: Tensor) -> Forward:
        def run(x: Tensor) -> Tensor:
            y = forward(x)
            if y.shape[:-1] != is_read.shape:  # what it is given depends on what others give
                return torch.full_like(y, torch.nan)
            if read_seed is not None and is_read.any():
                size = y[is_read].abs().mean()
                y = y + size * torch.randn(y.shape, generator=of_read).to(y)
            if is_read.all():
                return y
            noise = NOISE * torch.randn(y.shape, generator=of_unread).to(y)
            return torch.where(is_read[..., None], y, noise)

        return run

    disturbing = {name: noisy(instead[name], kept) for name, kept in read.items()}
    with torch.no_grad(), forwards(model, {**instead, **disturbing}):
        return model(**inputs).logits


def reach(
    model: nn.Module, inputs: Mapping[str, Tensor], instead: Mapping[str, Forward]
) -> dict[str, Tensor]:
    """Return, by layer of `instead`, for each row of its output whether it is read.

    Empty when noise in the unread rows moves the logits once the rows that are read have been
    changed too: a unit that is off in this pass may be on in another.
    """
    read = _is_read(model, inputs, instead)
    changed = [_disturbed(model, inputs, instead, read, seed, read_seed=4) for seed in (2, 3)]
    return read if torch.equal(*changed) else {}


def rows_read(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    instead: Mapping[str, Forward],
    logits: Tensor,
    read: Mapping[str, Tensor] | None = None,
) -> Rows:
    """Return, for the layers of `instead` that compute rows nobody reads, the rows that are read.

    `logits` are those of the model with `instead`; `read` is what `reach` found, here or with other
    weights.  A layer is left out when nearly all its rows are read.  None are returned, and so all
    rows are computed, when noise in the unread ones moves the logits.
    """
    read = reach(model, inputs, instead) if read is None else read
    partly = {name: kept for name, kept in read.items() if kept.float().mean() < WORTH_IT}
    if not partly.keys() <= instead.keys():
        return {}
    as_they_are = _disturbed(model, inputs, instead, partly, unread_seed=1)
    if not torch.equal(as_they_are, logits):
        return {}
    return {name: kept.flatten().nonzero().flatten() for name, kept in partly.items()}


def only_rows(forward: Forward, rows: Tensor | None, copies: Callable[[], int]) -> Forward:
    """Return what computes the rows read alone, zero elsewhere; `rows` None is every row.

    The input holds `copies()` copies of the batch whose rows are counted.
    """

    def run(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        starts = torch.arange(copies(), device=x.device)[:, None] * (len(flat) // copies())
        places = (starts + rows).flatten()
        part = forward(flat.index_select(0, places))
        y = part.new_zeros(len(flat), part.shape[-1]).index_copy_(0, places, part)
        return y.reshape(*x.shape[:-1], -1)

    return forward if rows is None else run
