r"""How far the mean of N independent draws strays from its expectation: a bound, a limit, a sample.

ALLoRA (arXiv 2410.09692), §3.1 and appendix A, for losses L_n of N independent masks and W fixed:

    E |1/N Σ L_n - E L|  <=  √E(1/N Σ L_n - E L)²  =  Std(L) / √N        (Jensen)     (error_bound)
                         →   √(2/π) Std(L) / √N    as N grows            (the central limit theorem)

so for large N the bound is √(π/2) = 1.2533 times too large.  It holds for every N.

The paper's appendix prints, in between, E[||Z||²]/N - E[||Z||²]² under the root (Z = Y - (X W) ∘ V).
Two things are wrong with that line: E||Z||⁴ belongs where E||Z||² stands, and the N(N - 1) cross
terms are lost, which leave (1 - 1/N) E[||Z||²]².  Its last line, Std/√N, is right.
"""

import math

from jaxtyping import Float
from torch import Tensor

from allora_lab.checks import require_at_least

NORMAL_FACTOR = math.sqrt(2 / math.pi)  # E|g| of a standard normal g: 0.7979


def error_bound(std: float, n_draws: int) -> float:
    """Return Std / √N, which E|mean of N draws - expectation| never exceeds (appendix A)."""
    require_at_least("n_draws", n_draws, 1)
    return std / math.sqrt(n_draws)


def normal_error(std: float, n_draws: int) -> float:
    """Return √(2/π) Std / √N, what E|mean of N draws - expectation| tends to for large N."""
    return NORMAL_FACTOR * error_bound(std, n_draws)


def sampled_error(
    draws: Float[Tensor, " total"], expectation: float, n_draws: int
) -> tuple[float, float]:
    """Return E|mean of N draws - expectation| estimated from draws, and its standard error.

    The draws are cut into groups of N; ValueError if there are fewer than two groups.
    """
    require_at_least("n_draws", n_draws, 1)
    groups = len(draws) // n_draws
    if groups < 2:
        raise ValueError(
            f"{len(draws)} draws make fewer than two groups of {n_draws}: draw at least "
            f"{2 * n_draws}"
        )
    means = draws[: groups * n_draws].view(groups, n_draws).mean(dim=1)
    errors = (means - expectation).abs()
    return errors.mean().item(), errors.std().item() / math.sqrt(groups)


def middle_line_as_printed(square: float, n_draws: int) -> float:
    """Return E[||Z||²]/N - E[||Z||²]², what appendix A prints under its root; `square` is E||Z||².

    It is negative whenever E||Z||² > 1/N, where the root is no number.
    """
    require_at_least("n_draws", n_draws, 1)
    return square / n_draws - square**2


def middle_line(square: float, fourth: float, n_draws: int) -> float:
    """Return E||Z||⁴/N + (1 - 1/N) E[||Z||²]² - E[||Z||²]², which is Var(||Z||²)/N."""
    require_at_least("n_draws", n_draws, 1)
    return fourth / n_draws + (1 - 1 / n_draws) * square**2 - square**2
