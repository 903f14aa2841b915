r"""SGD with a fresh mask at every step: W moves, which the paper's argument leaves out.

ALLoRA (arXiv 2410.09692), §3.1, averages the losses of N masks at one W and calls N the number of
steps.  Here each of N steps draws its own mask V_t and W follows the gradient of that one loss,

    output   W <- W - lr · 2 Xᵀ(((X W) ∘ V - Y) ∘ V)
    input    W <- W - lr · 2 (X ∘ V)ᵀ((X ∘ V) W - Y)

Both are affine in W with coefficients independent of W, so E W_t is gradient descent on the expected
loss, exactly, for every t and lr (`expected_descent`); how far one run is from that is in
`dropout_sgd_spread`.  With a bottleneck and B the only one to learn, the second line holds with
Z = X Aᵀ for X and Bᵀ for W.  With A and B both learning the step is not affine, and the mean run is
descent on the expected loss for one step only (`bottleneck_paths`, `bottleneck_descent`).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from allora_lab.checks import require_known, require_positive
from allora_lab.theory.dropout_ols import draw_masks, dropout_strength

LINEAR = ("output", "input")


def expected_hessian(placement: str, X: Float[Tensor, "n d"], keep: float) -> Float[Tensor, "d d"]:
    """Return H with ∇E = 2 (H W - XᵀY): XᵀX / keep for output, XᵀX + k diag(XᵀX) for input."""
    require_known("placement", placement, LINEAR)
    gram, k = X.T @ X, dropout_strength(keep)
    return (1 + k) * gram if placement == "output" else gram + k * gram.diagonal().diag()


def expected_descent(
    placement: str,
    X: Float[Tensor, "n d"],
    Y: Float[Tensor, "n c"],
    W: Float[Tensor, "d c"],
    *,
    keep: float,
    lr: float,
    steps: Sequence[int],
) -> Float[Tensor, "records d c"]:
    """Return gradient descent on the expected loss from W, after each number of steps.

    W_t = D W + (I - D) H⁻¹ XᵀY with D = (I - 2 lr H)^t; keep = 1 gives descent without dropout.
    Where an eigenvalue of H is 0, (1 - D)/h is 2 lr t and XᵀY is 0: W stays as it is.
    """
    require_positive("lr", lr)
    h, U = torch.linalg.eigh(expected_hessian(placement, X, keep))
    counts = torch.tensor(steps, dtype=X.dtype)[:, None]  # (records, 1)
    decay = (1 - 2 * lr * h) ** counts  # (records, d)
    reach = torch.where(h > 1e-12 * h[-1], (1 - decay) / h, 2 * lr * counts)
    return U @ (decay[:, :, None] * (U.T @ W) + reach[:, :, None] * (U.T @ X.T @ Y))


def sgd_paths(
    placement: str,
    X: Float[Tensor, "n d"],
    Y: Float[Tensor, "n c"],
    W: Float[Tensor, "d c"],
    *,
    keep: float,
    lr: float,
    steps: Sequence[int],
    n_paths: int,
    generator: torch.Generator,
) -> Float[Tensor, "records paths d c"]:
    """Return W of independent runs of SGD from W, after each (rising) number of steps."""
    require_known("placement", placement, LINEAR)
    current, found = W.expand(n_paths, *W.shape), []
    for t in range(1, max(steps) + 1):
        if placement == "output":
            V = draw_masks((n_paths, *Y.shape), keep, generator)
            gradient = 2 * X.T @ (((X @ current) * V - Y) * V)
        else:
            masked = X * draw_masks((n_paths, *X.shape), keep, generator)
            gradient = 2 * masked.mT @ (masked @ current - Y)
        current = current - lr * gradient
        found += [current] if t in steps else []
    return torch.stack(found)


def bottleneck_paths(
    X: Float[Tensor, "n d"],
    Y: Float[Tensor, "n c"],
    lora_A: Float[Tensor, "r d"],
    lora_B: Float[Tensor, "c r"],
    *,
    keep: float,
    lr: float,
    steps: int,
    n_paths: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "paths r d"], Float[Tensor, "paths c r"]]:
    """Return A and B of independent runs of SGD in which both learn, after `steps` steps."""
    A, B = lora_A.expand(n_paths, *lora_A.shape), lora_B.expand(n_paths, *lora_B.shape)
    for _ in range(steps):
        V = draw_masks((n_paths, len(X), len(lora_A)), keep, generator)
        masked = (X @ A.mT) * V
        error = 2 * (masked @ B.mT - Y)
        A, B = A - lr * ((error @ B) * V).mT @ X, B - lr * error.mT @ masked
    return A, B


def bottleneck_descent(
    X: Float[Tensor, "n d"],
    Y: Float[Tensor, "n c"],
    lora_A: Float[Tensor, "r d"],
    lora_B: Float[Tensor, "c r"],
    *,
    keep: float,
    lr: float,
    steps: int,
) -> tuple[Float[Tensor, "r d"], Float[Tensor, "c r"]]:
    """Return A and B after gradient descent on ||Y - X Aᵀ Bᵀ||² + k Σ_i ||X A_i||² ||B_i||²."""
    A, B, gram, k = lora_A, lora_B, X.T @ X, dropout_strength(keep)
    for _ in range(steps):
        Z = X @ A.T
        error = Z @ B.T - Y
        pull_A = k * B.square().sum(dim=0)[:, None] * (A @ gram)
        pull_B = k * Z.square().sum(dim=0) * B
        A, B = A - 2 * lr * (B.T @ error.T @ X + pull_A), B - 2 * lr * (error.T @ Z + pull_B)
    return A, B
