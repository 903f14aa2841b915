"""A small regression, whitened or not, and where each dropout's expected loss is least.

n = 24 samples, d = 5 inputs, c = 7 outputs, rank r = 3.  XᵀX has eigenvalues 24 (whitened) or 80.3
falling by a factor 3 each (mean 24 again).  Y = X W + noise of standard deviation 0.5.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from allora_lab.checks import require_known
from allora_lab.theory.dropout_bottleneck import bottleneck_optimum
from allora_lab.theory.dropout_ols import (
    PLACEMENTS,
    MaskedFit,
    bottleneck_dropout,
    input_dropout,
    output_dropout,
)
from allora_lab.theory.dropout_optimum import input_optimum, least_squares, output_optimum

SAMPLES, D, C, R = 24, 5, 7, 3


@dataclass(frozen=True, eq=False)
class DropoutTask:
    """X (n, d), Y (n, c), and XᵀX by its eigenvalues (d,) and eigenvectors (columns of (d, d))."""

    X: Float[Tensor, "n d"]
    Y: Float[Tensor, "n c"]
    eigenvalues: Float[Tensor, " d"]
    directions: Float[Tensor, "d d"]


@lru_cache(maxsize=8)
def dropout_task(*, is_whitened: bool, seed: int = 0) -> DropoutTask:
    """Return the regression; whitening changes the eigenvalues of XᵀX and nothing else drawn.

    Where all directions are eigenvectors, the singular vectors of least squares are taken.
    """
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64}
    Q = torch.linalg.qr(torch.randn(SAMPLES, D, **draw)).Q
    directions = torch.linalg.qr(torch.randn(D, D, **draw)).Q
    W = torch.randn(D, C, **draw) / D**0.5
    h = torch.ones(D, dtype=torch.float64) if is_whitened else 3.0 ** -torch.arange(D).double()
    h = h * SAMPLES / h.mean()
    X = (Q * h.sqrt()) @ directions.T
    Y = X @ W + 0.5 * torch.randn(SAMPLES, C, **draw)
    if is_whitened:
        directions = torch.linalg.svd(least_squares(X, Y)).U
    return DropoutTask(X, Y, h, directions)


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where the expected loss is least: the loss there, W, and what SGD's matrix is multiplied by.

    `design` is X, or X Aᵀ for a bottleneck, of which SGD then trains B alone.
    """

    fit: MaskedFit
    W: Float[Tensor, "d c"]
    design: Float[Tensor, "n m"]


def optimum(task: DropoutTask, placement: str, keep: float) -> Optimum:
    """Return the minimiser of the expected loss; with a bottleneck, over A and B of rank 3."""
    require_known("placement", placement, PLACEMENTS)
    X, Y = task.X, task.Y
    if placement == "bottleneck":
        A, B = bottleneck_optimum(X, Y, keep, R)
        return Optimum(bottleneck_dropout(X, Y, A, B), (B @ A).T, X @ A.T)
    if placement == "output":
        W = output_optimum(X, Y, keep)
        return Optimum(output_dropout(X, Y, W), W, X)
    W = input_optimum(X, Y, keep)
    return Optimum(input_dropout(X, Y, W), W, X)
