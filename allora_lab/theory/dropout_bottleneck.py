r"""What bottleneck dropout asks for when A and B are both free: singular values shrunk by one amount.

The expected loss (ALLoRA, arXiv text of §3.1), with z_i = X A_i and b_i the columns of X Aᵀ and B,

    ||Y - X Aᵀ Bᵀ||² + k Σ_i ||z_i||² ||b_i||²,      k = (1 - keep)/keep, i = 1 ... r.

Among all factors of one product P = X W of rank <= r the penalty is least when all ||z_i|| ||b_i||
are equal, and is then (k/r) ||P||_*², the square of the sum of singular values (Cavazza et al. 2018,
arXiv 1710.05092, for masks shared by all rows, whose expected loss is the same; Mianjy, Arora and
Vidal 2018, arXiv 1806.09777).  With s the singular values of
the projection of Y on X's columns, the minimiser keeps its singular vectors, and

    p_i = max(s_i - θ, 0) for i <= r,     θ = k (s_1 + ... + s_m) / (r + k m),   m the number kept.

So the joint minimiser is exact and in closed form, global for every keep.  It is no ridge, for a
ridge sets no singular value to zero, unless the s_i that are not zero are all equal.  The paper
does not derive it.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from allora_lab.checks import require_at_least
from allora_lab.theory.dropout_ols import dropout_strength


def shrunk_singular_values(s: Float[Tensor, " q"], keep: float, r: int) -> Float[Tensor, " q"]:
    """Return p = max(s - θ, 0), zero beyond the r largest, for singular values from large to small."""
    require_at_least("r", r, 1)
    k = dropout_strength(keep)
    sums = s[:r].cumsum(dim=0)
    counts = torch.arange(1, len(sums) + 1, dtype=s.dtype)
    thresholds = k * sums / (r + k * counts)
    kept = int((s[:r] > thresholds).sum())  # s falls; once s_m <= θ_m it stays so
    shrunk = torch.zeros_like(s)
    if kept:
        shrunk[:kept] = s[:kept] - thresholds[kept - 1]
    return shrunk


def equalising_rotation(diagonal: Float[Tensor, " r"]) -> Float[Tensor, "r r"]:
    """Return an orthogonal Q such that Qᵀ diag(s) Q has a constant diagonal, the mean of s.

    r - 1 plane rotations, each of which brings one entry to the mean (Chan and Li 1983).
    """
    r = len(diagonal)
    T, Q, mean = diagonal.diag(), torch.eye(r, dtype=diagonal.dtype), diagonal.mean().item()
    left = list(range(r))
    while len(left) > 1:
        i = max(left, key=lambda index: T[index, index].item())
        j = min(left, key=lambda index: T[index, index].item())
        if T[i, i] - T[j, j] <= 1e-12 * abs(mean):
            break
        above, below, cross = T[i, i].item() - mean, T[j, j].item() - mean, T[i, j].item()
        tangent = (-cross - math.sqrt(cross**2 - above * below)) / below  # below <= 0 <= above
        cosine = 1 / math.sqrt(1 + tangent**2)
        rotation = torch.eye(r, dtype=diagonal.dtype)
        rotation[i, i] = rotation[j, j] = cosine
        rotation[j, i], rotation[i, j] = tangent * cosine, -tangent * cosine
        T, Q = rotation.T @ T @ rotation, Q @ rotation
        left.remove(i)
    return Q


def bottleneck_optimum(
    X: Float[Tensor, "n d"], Y: Float[Tensor, "n c"], keep: float, r: int
) -> tuple[Float[Tensor, "r d"], Float[Tensor, "c r"]]:
    """Return lora_A, lora_B that minimise the expected loss of bottleneck dropout together.

    With U diag(p) Tᵀ the shrunk projection of Y, X Aᵀ = U √p Q and B = T √p Q, Q from
    `equalising_rotation`.  Needs r at most min(d, c), else ValueError.  The product is unique
    unless singular values tie at the r-th; the factors are not (Q may be turned further).
    """
    if r > min(X.shape[1], Y.shape[1]):
        raise ValueError(f"r must be at most min(d, c) = {min(X.shape[1], Y.shape[1])}, got {r}")
    inverse = torch.linalg.pinv(X)
    U, s, Tt = torch.linalg.svd(X @ (inverse @ Y), full_matrices=False)
    p = shrunk_singular_values(s, keep, r)[:r]
    root = p.sqrt().diag() @ equalising_rotation(p)
    return (inverse @ U[:, :r] @ root).T, Tt[:r].T @ root
