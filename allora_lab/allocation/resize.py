"""Ranks leave and come in a layer, and what the optimizer remembers of the others stays, exactly.

Every state tensor of an optimizer that has one entry a rank is cut and lengthened as its parameter
is.  The entries of the ranks that stay are copied bit for bit.  A new rank starts with zero momentum
and, where the optimizer keeps a mean of squared gradients, with the mean over the ranks that stayed:
that mean is divided by a count of steps which the whole tensor shares, so starting it at zero would
give a new rank several times the step of an old one (3.2 times at the first, about 6 times after
ten, with AdamW's defaults).  A module that comes back from no rank starts as a new tensor does.
With AdamW and SGD the ranks that stay then step as if the others had never been; Adafactor also keeps
a mean over all ranks and clips the step of the whole tensor, so there they feel who is beside them.
The paper says nothing of any of this.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from allora_lab.adapters.gated import GatedLinear

SECOND_MOMENTS = ("exp_avg_sq", "exp_avg_sq_row", "exp_avg_sq_col", "max_exp_avg_sq")


def _rank_axis(key: str, state: Tensor, old: nn.Parameter, axis: int) -> int | None:
    """Return which axis of a state tensor counts the ranks; None when none does.

    Adafactor keeps, of a matrix, one mean a row (`exp_avg_sq_row`) and one a column.
    """
    if state.shape == old.shape:
        return axis
    factored = {"exp_avg_sq_row": 0, "exp_avg_sq_col": 1}.get(key)
    return 0 if factored is not None and factored == axis and old.dim() == 2 else None


def _resized(key: str, state: Tensor, axis: int, keep: Tensor, added: int) -> Tensor:
    kept = state.index_select(axis, keep.to(state.device))
    shape = list(state.shape)
    shape[axis] = added
    new = state.new_zeros(shape)
    if key in SECOND_MOMENTS and len(keep) and added:
        new += kept.mean(dim=axis, keepdim=True)
    return torch.cat((kept, new), dim=axis)


def _migrate(
    optimizer: Optimizer, old: nn.Parameter, new: nn.Parameter, axis: int, keep: Tensor, added: int
) -> None:
    """Put `new` in the place of `old` in an optimizer's groups and state."""
    for group in optimizer.param_groups:
        group["params"] = [new if p is old else p for p in group["params"]]
    state = optimizer.state.pop(old, None)
    if not state or not len(keep):  # nothing to go on from: the optimizer starts this tensor anew
        return
    for key, value in state.items():
        if isinstance(value, Tensor):
            along = _rank_axis(key, value, old, axis)
            if along is not None:
                state[key] = _resized(key, value, along, keep, added)
    optimizer.state[new] = state


def resize_ranks(
    layers: Mapping[str, GatedLinear],
    keep: Mapping[str, Sequence[int]],
    added: Mapping[str, int],
    *,
    optimizers: Sequence[Optimizer] = (),
    generator: torch.Generator | None = None,
) -> None:
    """Keep the ranks `keep` of each layer, append `added` new ones, and tell the optimizers.

    New rows of A are drawn as LoRA's start, uniform in ±1/√d_in, from `generator`; new columns of B
    are zero: the function does not jump (the paper does not say how it starts them).  Layers are
    gone through in their order, so the generator gives each the same rows every time.

    Raises
    ------
    ValueError
        If gradients are waiting for a step, which a resize would lose; nothing has changed then.
    """
    for name, layer in layers.items():
        if any(p.grad is not None for p in layer.parameters()):
            raise ValueError(
                f"gradients are waiting in {name}: a resize in the middle of accumulation would "
                "lose them; call optimizer.step() and optimizer.zero_grad() first"
            )
    for name, layer in layers.items():
        stays, more = list(keep[name]), added[name]
        if stays == list(range(layer.r)) and not more:
            continue
        d_in = layer.lora_A.shape[1]
        rows = (
            2 * torch.rand(more, d_in, generator=generator, dtype=torch.float32) - 1
        ) * d_in**-0.5
        kept = torch.tensor(stays, dtype=torch.long)
        axes = {getattr(layer, n): axis for n, axis in layer.RANK_AXIS.items()}
        for old, new in layer.resize(kept, rows).items():
            for optimizer in optimizers:
                _migrate(optimizer, old, new, axes[old], kept, more)


def set_ranks(
    layers: Mapping[str, GatedLinear],
    ranks: Mapping[str, int],
    optimizers: Sequence[Optimizer] = (),
    seed: int = 0,
) -> None:
    """Give each layer so many ranks: the first ones stay, and what is new is drawn from the seed.

    For a model whose weights come next, from a checkpoint, or that has not been trained.
    """
    resize_ranks(
        layers,
        {name: range(min(layer.r, ranks[name])) for name, layer in layers.items()},
        {name: max(0, ranks[name] - layer.r) for name, layer in layers.items()},
        optimizers=optimizers,
        generator=torch.Generator().manual_seed(seed),
    )
