r"""How far dropout masks move the gradient of a network's second layer (paper §3.1, Figure 1).

The network, with keep probability p, masks M of independent Bernoulli(p) entries, and n images:

    D1 = relu(X W1ᵀ + b1) ∘ M1 / p,     D2 = relu(D1 W2ᵀ + b2) ∘ M2 / p,     logits = D2 W3ᵀ + b3 .

With E = (softmax(logits) - Y) / n, the gradient of the mean cross-entropy for W2 is

    G = Sᵀ D1,     S = (E W3 / p) ∘ M2 ∘ 1[D1 W2ᵀ + b2 > 0] ,                               (h2, h1)

one matrix a pair of masks.  Its standard deviation over masks is taken entry by entry.  Of a mask
only two products with 512 x 512 matrices are computed: the first layer is the same for all masks,
and no other gradient is needed.

Masks are drawn from 16 random bits an entry, so the keep probability is a multiple of 1/65536;
the same multiple is used for the factor 1/p, and E[M/p] = 1 holds exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from allora_lab.checks import require_at_least
from allora_lab.theory.streaming_moments import Moments

LEVELS = 1 << 16  # of the 16 bits that decide on an entry
AT_ONCE = 1 << 18  # entries of the masks computed together: they stay in a processor's cache
BLOCK = 32  # masks summed in the weights' own precision before they are merged in float64


@dataclass(frozen=True)
class MLPWeights:
    """Weights and biases of the three layers, as `nn.Linear` stores them."""

    W1: Float[Tensor, "h1 d"]
    b1: Float[Tensor, " h1"]
    W2: Float[Tensor, "h2 h1"]
    b2: Float[Tensor, " h2"]
    W3: Float[Tensor, "classes h2"]
    b3: Float[Tensor, " classes"]


def quantised_keep(keep: float) -> float:
    """Return the multiple of 1/65536 nearest to a keep probability.

    Raises ValueError unless the result lies above 0 and at most at 1.
    """
    nearest = round(keep * LEVELS) / LEVELS
    if not 0 < nearest <= 1:
        raise ValueError(f"keep must be a probability above 0 and at most 1, got {keep}")
    return nearest


def draw_masks(
    shape: tuple[int, ...], keep: float, generator: torch.Generator, like: Tensor
) -> Float[Tensor, "..."]:
    """Return independent Bernoulli(keep) entries, 0 or 1, in the type and on the device of `like`.

    The bits come from the generator's device, so one generator gives the same masks anywhere.
    """
    count = torch.Size(shape).numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)  # all 64 bits: four draws each
    draws = words.view(torch.int16)[:count].view(shape).to(like.device)
    least = -(LEVELS // 2)
    last_kept = least + round(keep * LEVELS) - 1
    return torch.le(draws, last_kept, out=torch.empty(shape, dtype=like.dtype, device=like.device))


def masks_at_once(n: int, h1: int, h2: int) -> int:
    """Return how many pairs of masks are drawn and pushed through the layers together."""
    return max(1, min(BLOCK, AT_ONCE // (n * max(h1, h2))))


def first_hidden(weights: MLPWeights, X: Float[Tensor, "n d"]) -> Float[Tensor, "n h1"]:
    """Return relu(X W1ᵀ + b1), which no mask has touched yet."""
    return torch.relu(torch.addmm(weights.b1, X, weights.W1.T))


def masked_signals(
    weights: MLPWeights,
    hidden: Float[Tensor, "n h1"],
    labels: Int[Tensor, " n"],
    M1: Float[Tensor, "k n h1"],
    M2: Float[Tensor, "k n h2"],
    keep: float,
) -> tuple[Float[Tensor, "k n h1"], Float[Tensor, "k n h2"]]:
    """Return D1 and S for each of k pairs of masks (entries 0 or 1): G = Sᵀ D1."""
    k, n, _ = M1.shape
    W3 = weights.W3 / keep  # carries the 1/p of D2 and of S
    D1 = M1 * (hidden / keep)
    D2 = torch.addmm(weights.b2, D1.flatten(0, 1), weights.W2.T)  # (k n, h2)
    D2.mul_(M2.flatten(0, 1)).relu_()
    logits = torch.mm(W3, D2.T).add_(
        weights.b3[:, None]
    )  # (classes, k n): faster than (k n, classes)
    E = torch.softmax(logits, dim=0).view(-1, k, n)
    E -= F.one_hot(labels, len(W3)).T[:, None, :].to(E.dtype)
    S = (E.view(-1, k * n).T @ W3).mul_(D2.sign_()).div_(n)  # D2 > 0: kept and active
    return D1, S.view(k, n, -1)


def masked_gradients(
    weights: MLPWeights,
    X: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    M1: Float[Tensor, "k n h1"],
    M2: Float[Tensor, "k n h2"],
    keep: float,
) -> Float[Tensor, "k h2 h1"]:
    """Return the gradient of W2 under each of k given pairs of masks (entries 0 or 1)."""
    D1, S = masked_signals(weights, first_hidden(weights, X), labels, M1, M2, keep)
    return S.transpose(1, 2) @ D1


def gradient_without_dropout(
    weights: MLPWeights, X: Float[Tensor, "n d"], labels: Int[Tensor, " n"]
) -> Float[Tensor, "h2 h1"]:
    """Return the gradient of W2 with every unit kept."""
    M1, M2 = X.new_ones(1, len(X), len(weights.W1)), X.new_ones(1, len(X), len(weights.W2))
    return masked_gradients(weights, X, labels, M1, M2, 1.0)[0]


def stream_gradient_moments(
    weights: MLPWeights,
    X: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    *,
    keep: float,
    n_masks: int,
    generator: torch.Generator,
) -> Iterator[Moments]:
    """Yield the moments of G over the masks drawn so far, every 32 masks, up to `n_masks`.

    Stop early by leaving the loop.  Raises ValueError for fewer than two masks or a keep
    probability out of (0, 1].
    """
    require_at_least("n_masks", n_masks, 2)
    keep = quantised_keep(keep)
    hidden = first_hidden(weights, X)
    shift, total = gradient_without_dropout(weights, X, labels), None
    for start in range(0, n_masks, BLOCK):
        size = min(BLOCK, n_masks - start)
        block = _block_moments(weights, hidden, labels, keep, size, shift, generator)
        total = block if total is None else total.merge(block)
        shift = total.mean.to(shift)
        yield total


def gradient_moments(
    weights: MLPWeights,
    X: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    *,
    keep: float,
    n_masks: int,
    generator: torch.Generator,
) -> Moments:
    """Return the moments of G, (h2, h1), over `n_masks` pairs of masks."""
    stream = stream_gradient_moments(
        weights, X, labels, keep=keep, n_masks=n_masks, generator=generator
    )
    *_, last = stream
    return last


def _block_moments(
    weights: MLPWeights,
    hidden: Float[Tensor, "n h1"],
    labels: Int[Tensor, " n"],
    keep: float,
    size: int,
    shift: Float[Tensor, "h2 h1"],
    generator: torch.Generator,
) -> Moments:
    """Return the moments over `size` new pairs of masks, summed about `shift`."""
    n, (h2, h1) = len(hidden), weights.W2.shape
    first, second, G = (torch.zeros_like(weights.W2) for _ in range(3))
    at_once = masks_at_once(n, h1, h2)
    for start in range(0, size, at_once):
        k = min(at_once, size - start)
        M1 = draw_masks((k, n, h1), keep, generator, hidden)
        M2 = draw_masks((k, n, h2), keep, generator, hidden)
        for D1, S in zip(*masked_signals(weights, hidden, labels, M1, M2, keep), strict=True):
            torch.addmm(shift, S.T, D1, beta=-1, out=G)
            first.add_(G)
            second.addcmul_(G, G)
    return Moments.of_sums(size, shift, first, second)


def variance_with_fixed_signals(
    a: Float[Tensor, "n h2"], hidden: Float[Tensor, "n h1"], keep: float
) -> Float[Tensor, "h2 h1"]:
    r"""Return the variance of G in closed form where masks change neither signs nor the output.

    If every unit of the second layer is active and the error E is constant, then
    G_ij = Σ_s a_si (M2_si / p) h_sj (M1_sj / p) with a = E W3, and as images have masks of their own

        Var[G_ij] = (1/p² - 1) Σ_s a_si² h_sj² .
    """
    return (keep**-2 - 1) * (a * a).T @ (hidden * hidden)
