r"""Mean and variance of a stream of arrays, entry by entry, in memory that does not grow.

For the first N arrays only N, their mean and Q = Σ_k (G_k - mean)² are kept.  Two such summaries
merge exactly (Chan, Golub & LeVeque 1983):

    δ = mean_b - mean_a,    mean = mean_a + δ N_b / N,    Q = Q_a + Q_b + δ² N_a N_b / N .
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from allora_lab.checks import require_at_least


@dataclass(frozen=True)
class Moments:
    """How many arrays were seen, their mean and the sum of their squared deviations (float64)."""

    count: int
    mean: Float[Tensor, "*shape"]
    squares: Float[Tensor, "*shape"]

    @classmethod
    def of_sums(
        cls,
        count: int,
        shift: Float[Tensor, "*shape"],
        first: Float[Tensor, "*shape"],
        second: Float[Tensor, "*shape"],
    ) -> "Moments":
        """Return the moments of `count` arrays from Σ (G - shift) and Σ (G - shift)².

        Any shift gives the same moments; one near the mean keeps the difference of the two sums
        from losing digits.
        """
        first, second, shift = (s.to("cpu", torch.float64) for s in (first, second, shift))
        squares = (first * first).div_(-count).add_(second).clamp_min_(0)
        return cls(count, (first / count).add_(shift), squares)

    @classmethod
    def of_stack(cls, arrays: Float[Tensor, "k ..."]) -> "Moments":
        """Return the moments of arrays that are all at hand, stacked along the first dimension."""
        require_at_least("the number of arrays", len(arrays), 1)
        arrays = arrays.to("cpu", torch.float64)
        mean = arrays.mean(dim=0)
        return cls(len(arrays), mean, ((arrays - mean) ** 2).sum(dim=0))

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both streams together, as if they had been one."""
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = (delta * (other.count / count)).add_(self.mean)
        between = delta.square_().mul_(self.count * other.count / count)
        return Moments(count, mean, (self.squares + other.squares).add_(between))

    def variance(self) -> Float[Tensor, "*shape"]:
        """Return Q / (N - 1), the unbiased variance; ValueError with fewer than two arrays."""
        require_at_least("the number of arrays whose variance is asked for", self.count, 2)
        return self.squares / (self.count - 1)

    def std(self) -> Float[Tensor, "*shape"]:
        """Return the square root of the variance.

        Its own standard error is about std / √(2 N) where the arrays are nearly normal.
        """
        return self.variance().sqrt()
