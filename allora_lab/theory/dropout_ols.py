r"""Dropout on ordinary least squares: its expected loss, and how far N draws stray from it.

ALLoRA (arXiv 2410.09692), §3.1 and appendix A: Y (n, c), X (n, d), W (d, c), masks V whose entries
are 1/p with probability p and 0 otherwise, so that E V = 1 and Var V = k = (1 - p)/p.  The paper
calls p a rate; it is the probability of *keeping*, here `keep`.  Three places are called dropout:

    output      ||Y - (X W) ∘ V||²           the ICLR submission
    bottleneck  ||Y - ((X A) ∘ V) B||²       the later arXiv text; A (d, r) is `lora_A.T` here
    input       ||Y - (X ∘ V) W||²           loralib, PEFT and this package's adapters

All are ||Y - (Z ∘ V) M||² with Z M the undropped prediction, so that one formula serves all three.
With R = Y - Z M, G = M Mᵀ and rows of V independent,

    E = ||R||² + k Σ_ij Z_ij² G_jj
    Var = k Σ_ij ((k - 1) Z_ij² G_jj - 2 Z_ij (R Mᵀ)_ij)²  +  2 k² Σ_i Σ_{j≠l} Z_ij² Z_il² G_jl² .

The variance is exact: an entry D = V - 1 takes two values, so D² = k + (k - 1) D, and the loss is a
polynomial in independent D of degree one in each.  The paper has E for `output`, and no variance.
"""

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from allora_lab.checks import require_at_least

PLACEMENTS = ("output", "bottleneck", "input")
AT_ONCE = 1 << 15  # entries computed together: they stay in a processor's cache


@dataclass(frozen=True)
class MaskedFit:
    """The loss ||Y - (Z ∘ V) M||_F² as a function of the mask V: Z is what is masked."""

    Y: Float[Tensor, "n c"]
    Z: Float[Tensor, "n m"]
    M: Float[Tensor, "m c"]


def require_keep(keep: float) -> None:
    """Raise ValueError unless `keep` is a probability above 0 (at most 1: no dropout)."""
    if not 0 < keep <= 1:
        raise ValueError(
            f"keep is the probability of keeping an entry and must be above 0 and at most 1, "
            f"got {keep}"
        )


def dropout_strength(keep: float) -> float:
    """Return k = (1 - keep) / keep, the variance of a mask's entry."""
    require_keep(keep)
    return (1 - keep) / keep


def output_dropout(
    X: Float[Tensor, "n d"], Y: Float[Tensor, "n c"], W: Float[Tensor, "d c"]
) -> MaskedFit:
    """Return ||Y - (X W) ∘ V||² with V (n, c): Z = X W, M = I (§3.1)."""
    return MaskedFit(Y, X @ W, torch.eye(Y.shape[1], dtype=Y.dtype))


def bottleneck_dropout(
    X: Float[Tensor, "n d"],
    Y: Float[Tensor, "n c"],
    lora_A: Float[Tensor, "r d"],
    lora_B: Float[Tensor, "c r"],
) -> MaskedFit:
    """Return ||Y - ((X Aᵀ) ∘ V) Bᵀ||² with V (n, r), for Wᵀ = B A as this package stores it."""
    return MaskedFit(Y, X @ lora_A.T, lora_B.T)


def input_dropout(
    X: Float[Tensor, "n d"], Y: Float[Tensor, "n c"], W: Float[Tensor, "d c"]
) -> MaskedFit:
    """Return ||Y - (X ∘ V) W||² with V (n, d); for LoRA, W = (B A)ᵀ."""
    return MaskedFit(Y, X, W)


def plain_loss(fit: MaskedFit) -> Float[Tensor, ""]:
    """Return ||Y - Z M||², the loss without dropout."""
    return (fit.Y - fit.Z @ fit.M).square().sum()


def penalty(fit: MaskedFit) -> Float[Tensor, ""]:
    """Return Σ_ij Z_ij² ||M_j||², which k multiplies in the expected loss.

    output ||X W||²; bottleneck Σ_r ||(X Aᵀ)_:,r||² ||B_:,r||²; input Σ_j ||X_:,j||² ||W_j,:||².
    """
    return fit.Z.square().sum(dim=0) @ fit.M.square().sum(dim=1)


def expected_loss(fit: MaskedFit, keep: float) -> Float[Tensor, ""]:
    """Return E ||Y - (Z ∘ V) M||² = ||Y - Z M||² + k · penalty, over every mask (§3.1)."""
    return plain_loss(fit) + dropout_strength(keep) * penalty(fit)


def loss_variance(fit: MaskedFit, keep: float) -> Float[Tensor, ""]:
    """Return Var ||Y - (Z ∘ V) M||² over masks, exactly (the formula of the module).

    For `output` G = I and only the first sum is left, k Σ_ij (P_ij² / keep - 2 P_ij Y_ij)² with
    P = X W: it is 0 at W = 0, where no mask changes anything.
    """
    k = dropout_strength(keep)
    gram, squares = fit.M @ fit.M.T, fit.Z.square()
    residual = fit.Y - fit.Z @ fit.M
    linear = (k - 1) * squares * gram.diagonal() - 2 * fit.Z * (residual @ fit.M.T)
    off_diagonal = (gram - gram.diagonal().diag()).square()
    return k * linear.square().sum() + 2 * k**2 * ((squares @ off_diagonal) * squares).sum()


def draw_masks(
    shape: tuple[int, ...], keep: float, generator: torch.Generator
) -> Float[Tensor, "..."]:
    """Return independent entries, 1/keep with probability `keep` and 0 otherwise."""
    require_keep(keep)
    uniform = torch.rand(shape, generator=generator)  # float32: twice as fast, and steps of 2⁻²⁴
    return (uniform < keep).to(torch.float64) / keep


def losses_of(fit: MaskedFit, V: Float[Tensor, "draws n m"]) -> Float[Tensor, " draws"]:
    """Return the loss of each mask."""
    return (fit.Y - (fit.Z * V) @ fit.M).square().sum(dim=(1, 2))


def sampled_losses(
    fit: MaskedFit, keep: float, n_draws: int, generator: torch.Generator
) -> Float[Tensor, " n_draws"]:
    """Return the losses of `n_draws` independent masks, W held fixed."""
    require_at_least("n_draws", n_draws, 1)
    batch = max(1, AT_ONCE // max(fit.Z.numel(), fit.Y.numel()))
    sizes = [min(batch, n_draws - done) for done in range(0, n_draws, batch)]
    return torch.cat(
        [losses_of(fit, draw_masks((size, *fit.Z.shape), keep, generator)) for size in sizes]
    )


def every_mask(
    n: int, m: int, keep: float
) -> tuple[Float[Tensor, "masks n m"], Float[Tensor, " masks"]]:
    """Return all 2^(n·m) masks and their probabilities, to check what is claimed of them."""
    require_keep(keep)
    if n * m > 20:
        raise ValueError(f"2^(n·m) masks are listed only for n·m of at most 20, got {n * m}")
    kept = torch.tensor(list(itertools.product((0.0, 1.0), repeat=n * m)), dtype=torch.float64)
    count = kept.sum(dim=1)
    return kept.view(-1, n, m) / keep, keep**count * (1 - keep) ** (n * m - count)
