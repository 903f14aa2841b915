r"""How fast A and B move under dropout: the gradients of the expected loss (ALLoRA, arXiv text, §3.2).

With R = Y - X Wᵀ what the pretrained weights leave, Z = X Aᵀ with columns z_i, b_i the columns of B
and k = (1 - keep)/keep,

    E[L] = ||R - Z Bᵀ||² + k Σ_i ||z_i||² ||b_i||²
    ∇_A = 2 [ -Bᵀ Rᵀ X + Bᵀ B A XᵀX + k diag(||b_i||²) A XᵀX ]
    ∇_B = 2 [ -Rᵀ Z + B ZᵀZ + k B diag(||z_i||²) ].

The paper prints both for A and B transposed, without the factor 2, and with the norms of the *rows*
of X A, of which there are n and not r; its columns are meant (`as_printed` puts that right and leaves
out the 2).  It calls k ||b_i||² and k ||z_i||² the strengths of the regularizer on A and on B: at
B = 0 the first is 0 and the second is not.  The pull itself is strength times factor, so that at
B = 0 dropout pulls neither: its first step is LoRA's without dropout.
"""

from jaxtyping import Float
from torch import Tensor

from allora_lab.theory.dropout_ols import dropout_strength

Pair = tuple[Float[Tensor, "r d"], Float[Tensor, "c r"]]


def strengths(
    X: Float[Tensor, "n d"], A: Float[Tensor, "r d"], B: Float[Tensor, "c r"], keep: float
) -> tuple[Float[Tensor, " r"], Float[Tensor, " r"]]:
    """Return k ||b_i||² and k ||z_i||², by which dropout weighs the decay of each rank of A and B."""
    k = dropout_strength(keep)
    return k * B.square().sum(dim=0), k * (X @ A.T).square().sum(dim=0)


def dropout_pull(
    X: Float[Tensor, "n d"], A: Float[Tensor, "r d"], B: Float[Tensor, "c r"], keep: float
) -> Pair:
    """Return the gradients of the penalty k Σ_i ||z_i||² ||b_i||² by A and by B."""
    on_A, on_B = strengths(X, A, B, keep)
    return 2 * on_A[:, None] * (A @ X.T @ X), 2 * B * on_B


def expected_gradients(
    X: Float[Tensor, "n d"],
    R: Float[Tensor, "n c"],
    A: Float[Tensor, "r d"],
    B: Float[Tensor, "c r"],
    keep: float,
) -> Pair:
    """Return ∇_A and ∇_B of the expected loss, R being what is left to fit."""
    misfit = R - X @ A.T @ B.T
    pull_A, pull_B = dropout_pull(X, A, B, keep)
    return -2 * B.T @ misfit.T @ X + pull_A, -2 * misfit.T @ X @ A.T + pull_B


def as_printed(
    X: Float[Tensor, "n d"],
    R: Float[Tensor, "n c"],
    A: Float[Tensor, "d r"],
    B: Float[Tensor, "r c"],
    keep: float,
) -> tuple[Float[Tensor, "d r"], Float[Tensor, "r c"]]:
    """Return the paper's two gradients, in its own shapes, with the norms of X A's columns."""
    k = dropout_strength(keep)
    Z = X @ A
    rows_of_B, columns_of_Z = B.square().sum(dim=1).diag(), Z.square().sum(dim=0).diag()
    on_A = -X.T @ R @ B.T + X.T @ Z @ (k * rows_of_B + B @ B.T)
    on_B = -Z.T @ R + (Z.T @ Z + k * columns_of_Z) @ B
    return on_A, on_B
