r"""How far one run of SGD under dropout is from the mean of all runs: exact, by a linear recursion.

For one column y of Y let s = (w, 1).  A step of `dropout_sgd` is s <- (I - lr Σ_i K_i) s, where K_i
depends on the mask of row i of X alone, so the K_i are independent and S = E[s sᵀ] follows

    vec S <- T vec S,    T = F̄ ⊗ F̄ + lr² Σ_i (E[K_i ⊗ K_i] - E[K_i] ⊗ E[K_i]),    F̄ = I - lr Σ_i E[K_i].

The expectations are sums over all masks of a row: 2 for an entry of output dropout, 2^d for a row of
the input.  T has (d + 1)² rows, so this is for small d.  It is this package's: the paper holds W
fixed, where the mean of N draws strays by Std/√N, and says nothing of a W that moves.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from allora_lab.checks import require_at_least, require_known, require_positive
from allora_lab.theory.dropout_sgd import LINEAR, expected_descent


def path_spread(
    placement: str,
    X: Float[Tensor, "n d"],
    Y: Float[Tensor, "n c"],
    W: Float[Tensor, "d c"],
    *,
    keep: float,
    lr: float,
    steps: Sequence[int],
) -> Float[Tensor, " records"]:
    """Return √E||W_t - E W_t||_F² after each (rising) number of steps from W, over all masks."""
    require_positive("lr", lr)
    require_at_least("the first of steps", steps[0], 0)
    maps, d = square_maps(placement, X, Y, keep, lr), len(W)
    start = torch.cat((W, W.new_ones(1, W.shape[1]))).T  # (c, d + 1)
    S = (start[:, :, None] * start[:, None, :]).flatten(1)[:, :, None]  # (c, (d + 1)², 1)
    means = expected_descent(placement, X, Y, W, keep=keep, lr=lr, steps=steps)
    squares, done = [], 0
    for t, mean in zip(steps, means, strict=True):
        S = torch.linalg.matrix_power(maps, t - done) @ S
        second = S.view(-1, d + 1, d + 1).diagonal(dim1=1, dim2=2)[:, :d]  # E w_i², (c, d)
        squares.append((second - mean.T.square()).sum())
        done = t
    return torch.stack(squares).clamp(min=0).sqrt()  # rounding may leave -1e-16


def square_maps(
    placement: str, X: Float[Tensor, "n d"], Y: Float[Tensor, "n c"], keep: float, lr: float
) -> Float[Tensor, "c q q"]:
    """Return T for each column of Y; q = (d + 1)²."""
    K, p = row_terms(placement, X, Y, keep)
    masks, n, c, m = K.shape[:4]
    mean = torch.einsum("p,pncab->cnab", p, K)
    factor = torch.eye(m, dtype=X.dtype) - lr * mean.sum(dim=1)
    every = (p.sqrt()[:, None, None, None] * K.flatten(3)).permute(2, 0, 1, 3)
    every, alone = every.reshape(c, masks * n, m * m), mean.flatten(2)
    products = lr**2 * (every.mT @ every - alone.mT @ alone)  # rows (ab), columns (de)
    products = products + factor.flatten(1)[:, :, None] * factor.flatten(1)[:, None, :]
    # of K ⊗ K, entry K_ab K_de stands in row (a, d) and column (b, e)
    return products.view(c, m, m, m, m).permute(0, 1, 3, 2, 4).reshape(c, m * m, m * m)


def row_terms(
    placement: str, X: Float[Tensor, "n d"], Y: Float[Tensor, "n c"], keep: float
) -> tuple[Float[Tensor, "masks n c m m"], Float[Tensor, " masks"]]:
    """Return K_i for every mask of a row, and the masks' probabilities; m = d + 1.

    K = 2 (u uᵀ, -y u; 0, 0) with u = v x for the one entry v of output dropout, x ∘ v for input.
    """
    require_known("placement", placement, LINEAR)
    width = 1 if placement == "output" else X.shape[1]
    values = torch.tensor([0.0, 1.0], dtype=X.dtype)
    kept = torch.cartesian_prod(*[values] * width).view(-1, 1, width)
    count = kept.sum(dim=(1, 2))
    u = X * kept / keep  # (masks, n, d)
    square = (u[..., :, None] * u[..., None, :])[:, :, None].expand(-1, -1, Y.shape[1], -1, -1)
    cross = -u[:, :, None, :, None] * Y[:, :, None, None]
    K = F.pad(2 * torch.cat((square, cross), dim=-1), (0, 0, 0, 1))
    return K, keep**count * (1 - keep) ** (width - count)
