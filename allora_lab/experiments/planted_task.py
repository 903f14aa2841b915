"""A task whose answer is known: targets that a change of rank 2 explains, and LoRA's start.

Unit-normal inputs X, a random W, and targets Y = X (W + Δ)ᵀ with Δ of rank 2 and singular values 1
and ½.  Fewer samples are the first rows of the same inputs, fewer ranks the first rows of the same
A, and a smaller A the same one scaled, so that moving one setting changes nothing else.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from allora_lab.checks import require_at_least
from allora_lab.theory.hessian import Regression

D_IN, D_OUT, R = 32, 5, 4
MOST_SAMPLES, MOST_RANKS = 256, 16


def planted_task(n: int, d_in: int = D_IN, d_out: int = D_OUT, seed: int = 0) -> Regression:
    """Return inputs X (n, d_in), W (d_out, d_in) and targets that a Δ of rank 2 explains.

    Raises ValueError unless 1 <= n <= MOST_SAMPLES and d_in, d_out >= 2.
    """
    for name, value, least in (("n", n, 1), ("d_in", d_in, 2), ("d_out", d_out, 2)):
        require_at_least(name, value, least)
    if n > MOST_SAMPLES:
        raise ValueError(f"n must be at most {MOST_SAMPLES}, got {n}: choose fewer samples")
    draw = {"generator": torch.Generator().manual_seed(seed), "dtype": torch.float64}
    X = torch.randn(MOST_SAMPLES, d_in, **draw)[:n]
    W = torch.randn(d_out, d_in, **draw) * d_in**-0.5
    U, _ = torch.linalg.qr(torch.randn(d_out, 2, **draw))
    V, _ = torch.linalg.qr(torch.randn(d_in, 2, **draw))
    change = U @ torch.diag(torch.tensor([1.0, 0.5], dtype=torch.float64)) @ V.mT
    return Regression(X, W, X @ (W + change).mT)


def start_of_A(
    d_in: int = D_IN, r: int = R, scale: float = 1.0, seed: int = 0
) -> Float[Tensor, "r d_in"]:
    """Return A with entries uniform within ± scale / √d_in: LoRA's own start at scale 1.

    Raises ValueError unless 1 <= r <= MOST_RANKS.
    """
    require_at_least("r", r, 1)
    if r > MOST_RANKS:
        raise ValueError(f"r must be at most {MOST_RANKS}, got {r}: choose a smaller rank")
    generator = torch.Generator().manual_seed(seed + 1)
    unit = torch.rand(MOST_RANKS, d_in, generator=generator, dtype=torch.float64)[:r]
    return scale * d_in**-0.5 * (2 * unit - 1)
