r"""What the expected dropout loss asks for, and which ridge it equals, if any.

ALLoRA (arXiv 2410.09692), §3.1, with k = (1 - p)/p, p = `keep`:

    output    W = p (XᵀX)⁻¹ XᵀY                      the same share p along every direction
    input     W = (XᵀX + k diag(XᵀX))⁻¹ XᵀY          a ridge on columns scaled to one length
    ridge     W = (XᵀX + λ I)⁻¹ XᵀY                  the share h/(h + λ) along eigenvalue h of XᵀX

The paper prints YᵀX for XᵀY, a (c, d) matrix that cannot follow a (d, d) one unless c = d.
Whitened, XᵀX = c I, both equal the ridge with λ = c k, or p = c/(c + λ).  For `output` whitening is
also necessary (for all Y); for `input` equal lengths of X's columns are enough.  Bottleneck dropout
is in general no ridge, whitened or not: see `dropout_bottleneck`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from allora_lab.theory.dropout_ols import dropout_strength, require_keep


def least_squares(X: Float[Tensor, "n d"], Y: Float[Tensor, "n c"]) -> Float[Tensor, "d c"]:
    """Return (XᵀX)⁻¹ XᵀY; the solution of least norm where X has dependent columns."""
    return torch.linalg.pinv(X) @ Y


def output_optimum(
    X: Float[Tensor, "n d"], Y: Float[Tensor, "n c"], keep: float
) -> Float[Tensor, "d c"]:
    """Return the W that minimises the expected loss of output dropout, keep (XᵀX)⁻¹ XᵀY (§3.1)."""
    require_keep(keep)
    return keep * least_squares(X, Y)


def input_optimum(
    X: Float[Tensor, "n d"], Y: Float[Tensor, "n c"], keep: float
) -> Float[Tensor, "d c"]:
    """Return the W that minimises that of input dropout, (XᵀX + k diag(XᵀX))⁻¹ XᵀY.

    For bottleneck dropout with A fixed it gives Bᵀ, with X Aᵀ in place of X.  Needs columns of X
    that are not 0, and independent ones where keep = 1; else torch says the matrix is singular.
    """
    gram = X.T @ X
    return torch.linalg.solve(gram + dropout_strength(keep) * gram.diagonal().diag(), X.T @ Y)


def ridge(X: Float[Tensor, "n d"], Y: Float[Tensor, "n c"], lam: float) -> Float[Tensor, "d c"]:
    """Return (XᵀX + λ I)⁻¹ XᵀY."""
    return torch.linalg.solve(X.T @ X + lam * torch.eye(X.shape[1], dtype=X.dtype), X.T @ Y)


def equal_ridge(c: float, keep: float) -> float:
    """Return λ = c (1 - keep)/keep, the ridge that output dropout equals where XᵀX = c I (§3.1)."""
    return c * dropout_strength(keep)


def nearest_ridge(
    X: Float[Tensor, "n d"], Y: Float[Tensor, "n c"], W: Float[Tensor, "d c"]
) -> tuple[float, float]:
    """Return the λ whose ridge is nearest to W, and what is left, ||W - ridge||_F / ||W||_F.

    In eigenvectors of XᵀX the ridge is diagonal, so all λ of a grid are tried at once, from 1e-6
    to 1e6 times the largest eigenvalue, then a finer grid around the best: λ to about 1e-5 of itself.
    """
    h, U = torch.linalg.eigh(X.T @ X)
    ols, target = U.T @ least_squares(X, Y), U.T @ W

    def distances(lams: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
        shares = h / (h + lams[:, None])  # (k, d)
        return (target - shares[:, :, None] * ols).flatten(1).norm(dim=1)

    centre, width = h[-1].log10().item(), 6.0
    for _ in range(3):
        grid = torch.logspace(centre - width, centre + width, 401, dtype=X.dtype)
        found = distances(grid)
        best = int(found.argmin())
        centre, width = grid[best].log10().item(), width / 60
    return grid[best].item(), (found[best] / W.norm()).item()


def shares_kept(
    W: Float[Tensor, "d c"], ols: Float[Tensor, "d c"], directions: Float[Tensor, "d k"]
) -> Float[Tensor, " k"]:
    """Return what W keeps of least squares along each direction u, <uᵀW, uᵀW_ols> / ||uᵀW_ols||²."""
    mine, full = directions.T @ W, directions.T @ ols
    return (mine * full).sum(dim=1) / full.square().sum(dim=1)
