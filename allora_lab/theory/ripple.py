r"""The ripple effect of the scaling factor: what a stack of L adapted layers can do to a norm.

ALLoRA (arXiv 2410.09692), §3.3: with f_L(x) = (W_L + s B_L A_L) ... (W_1 + s B_1 A_1) x, operator
norms, m_l = ||B_l A_l|| / ||W_l||, m̄ their mean and C = ||W_L|| ... ||W_1||,

    ||f_L(x)|| <= C Π_l (1 + s m_l) ||x|| <= C (1 + s m̄)^L ||x|| .                     (growth_bound)

The first inequality adds lengths, as if every adapter pushed along the signal.  Directions that
have nothing to do with the signal add squares instead: for rotation-invariant random W_l and B_l A_l

    E ||f_L(x)||² = Π_l ||W_l||_F² / d · (1 + s² q_l) · ||x||²,    q_l = ||B_l A_l||_F² / ||W_l||_F² .

Both are one recursion, `through_depth`, and so are the cases with a residual stream or a LayerNorm.

The paper calls the factor η; here it is `scaling`, for η² is ALLoRA's setting.  The paper prints
W_L for W_l in m̄, and `=` for the first `<=`.  It calls every inequality tight: the second is
an equality only where all m_l are equal, and then only for directions chosen for it.  Its
Θ((1 + η)^L) holds only for m̄ = 1: (1 + s m̄)^L and (1 + s)^L are exponentials to different bases.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from allora_lab.checks import require_known

ARCHITECTURES = ("multi-linear", "residual", "post-layernorm", "pre-layernorm")


def require_not_negative(name: str, value: float) -> None:
    """Raise ValueError unless `value` is at least 0."""
    if not value >= 0:
        raise ValueError(f"{name} must be at least 0, got {value}")


def growth_bound(ratios: Float[Tensor, " L"], scaling: float) -> Float[Tensor, " depths"]:
    """Return Π_{k <= l} (1 + s m_k) for l = 0 to L: the most that C ||x|| can be exceeded by.

    It bounds the growth against the pretrained output only where ||W_l ... W_1 x|| = C ||x||, as
    for orthogonal W_l; a pretrained stack that shrinks x can be outgrown by more.

    Parameters
    ----------
    ratios
        m_l = ||B_l A_l|| / ||W_l||, operator norms, from the first layer to the last.
    scaling
        s, at least 0.
    """
    require_not_negative("scaling", scaling)
    return torch.cat((ratios.new_ones(1), torch.cumprod(1 + scaling * ratios, dim=0)))


def mean_ratio_bound(ratios: Float[Tensor, " L"], scaling: float) -> float:
    """Return (1 + s m̄)^L with m̄ the mean of m_l; at least Π (1 + s m_l), by AM-GM (§3.3)."""
    require_not_negative("scaling", scaling)
    return (1 + scaling * ratios.mean().item()) ** len(ratios)


def through_depth(
    architecture: str, gains: Float[Tensor, " L"], start: float, reset: float
) -> Float[Tensor, " depths"]:
    """Return a size N_l at depth 0 to L, where layer l's branch multiplies what it sees by g_l.

        multi-linear     h_l = F_l(h_{l-1})                  N_l = g_l N_{l-1}
        residual         h_l = h_{l-1} + F_l(h_{l-1})        N_l = N_{l-1} + g_l N_{l-1}
        pre-layernorm    h_l = h_{l-1} + F_l(LN(h_{l-1}))    N_l = N_{l-1} + g_l N_LN
        post-layernorm   h_l = LN(h_{l-1} + F_l(h_{l-1}))    N_l = N_LN

    With lengths (N = ||h||, N_LN = √d, g = largest gain) it is the triangle inequality, an upper
    bound; with squared lengths (N = E||h||², N_LN = d, g = mean squared gain) it is Pythagoras, the
    expectation for independent directions.  The paper has the first line only.

    Parameters
    ----------
    gains
        g_l, of lengths or of squares.
    start, reset
        N_0, and N_LN, the size of what a LayerNorm without weights returns.
    """
    require_known("architecture", architecture, ARCHITECTURES)
    if architecture == "multi-linear":
        sizes = start * torch.cumprod(gains, dim=0)
    elif architecture == "residual":
        sizes = start * torch.cumprod(1 + gains, dim=0)
    elif architecture == "pre-layernorm":
        sizes = start + reset * torch.cumsum(gains, dim=0)
    else:
        sizes = torch.full_like(gains, reset)
    return torch.cat((gains.new_tensor([start]), sizes))


def norm_bound(
    architecture: str,
    weight_norms: Float[Tensor, " L"],
    ratios: Float[Tensor, " L"],
    scaling: float,
    d: int,
) -> Float[Tensor, " depths"]:
    """Return the largest ||h_l|| the operator norms allow, for ||x|| = √d: gains ||W_l|| (1 + s m_l).

    Under `multi-linear` it is the paper's C Π (1 + s m_l) ||x||.  Under `pre-layernorm` it grows
    by a constant a layer, not by a factor; under `post-layernorm` it does not grow.
    """
    require_not_negative("scaling", scaling)
    return through_depth(architecture, weight_norms * (1 + scaling * ratios), d**0.5, d**0.5)


def mean_square_norm(
    architecture: str,
    weight_squares: Float[Tensor, " L"],
    frobenius_ratios: Float[Tensor, " L"],
    scaling: float,
    d: int,
) -> Float[Tensor, " depths"]:
    """Return E ||h_l||² for ||x||² = d and independent rotation-invariant W_l and B_l A_l.

    A unit vector leaves W_l with mean square ||W_l||_F² / d and s B_l A_l with s² ||B_l A_l||_F² / d;
    the two are uncorrelated, so g_l = ||W_l||_F² / d · (1 + s² q_l).

    Parameters
    ----------
    weight_squares
        ||W_l||_F² / d; 1 for an orthogonal W_l.
    frobenius_ratios
        q_l = ||B_l A_l||_F² / ||W_l||_F², or its mean over the draws.
    """
    gains = weight_squares * (1 + scaling**2 * frobenius_ratios)
    return through_depth(architecture, gains, float(d), float(d))


def aligned_growth(ratio: float, scaling: float, alignment: float) -> float:
    """Return the growth a layer, √(1 + 2 s m a² + s² m² a²), of a rank-one adapter m u vᵀ.

    W_l is orthogonal and a is the cosine both of v with the layer's input and of u with W_l times
    that input.  a = 1 gives the bound, 1 + s m; a = 0 gives 1; independent random directions have
    E a² = 1/d each, which leaves √(1 + s² m² / d) on average.
    """
    require_not_negative("scaling", scaling)
    if not 0 <= alignment <= 1:
        raise ValueError(f"alignment is a cosine and must lie in [0, 1], got {alignment}")
    push = scaling * ratio * alignment
    return (1 + 2 * push * alignment + push**2) ** 0.5
