"""One measured number behind a claim: its values, their mean and interval, and tests against a value.

A number has one value per seed (or per round of a benchmark).  Its mean and 95 % interval are of the
values ("mean"), of their logarithms ("ratio"), or of the median ("median", for times with outliers).
A "count" is exact: it repeats to the last digit, so it has neither an interval nor a test.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from scipy import stats

from allora_lab.experiments.statistics import ROUNDING, mean_interval, median_interval

KINDS = ("mean", "ratio", "median", "count")
FEWEST = 3  # seeds that must be left for an interval to say anything


@dataclass(frozen=True)
class Evidence:
    """A measured number: what it is, and its values.

    Attributes
    ----------
    what
        What was measured, in words.
    values
        One per seed or round.
    units
        What the values are counted in: "seeds", "rounds", "run".
    kind
        How they are summarised; one of KINDS.
    seeds
        The seed of each value; empty where the values are no seeds.
    unstarted
        The seeds of which a run never started to learn (see `claim_sweeps.never_started`).
    is_projected
        Whether it is computed from another measured number, so that it is no test of its own.
    """

    what: str
    values: tuple[float, ...]
    units: str = "seeds"
    kind: str = "mean"
    seeds: tuple[int, ...] = ()
    unstarted: tuple[int, ...] = ()
    is_projected: bool = False

    @property
    def n(self) -> int:
        """Return how many values there are."""
        return len(self.values)

    @cached_property
    def _summary(self) -> tuple[float, float, float]:
        if self.n == 1:
            return (self.values[0],) * 3
        if self.kind == "median":
            return median_interval(self.values)
        mean, half = mean_interval(self._points)
        ends = (mean, mean - half, mean + half)
        return tuple(map(math.exp, ends)) if self.kind == "ratio" else ends

    @property
    def mean(self) -> float:
        """Return the mean; of ratios the geometric mean, of times the median."""
        return self._summary[0]

    @property
    def low(self) -> float:
        """Return the lower end of the 95 % interval."""
        return self._summary[1]

    @property
    def high(self) -> float:
        """Return the upper end of the 95 % interval."""
        return self._summary[2]

    @property
    def size(self) -> float:
        """Return the mean without its sign, for texts that say "below by"."""
        return abs(self.mean)

    @property
    def is_tested(self) -> bool:
        """Return whether the values have a spread, without which nothing can be tested."""
        spread = max(self.values) - min(self.values)
        is_spread = spread > ROUNDING * max(map(abs, self.values))
        return self.n > 1 and is_spread and self.kind != "count"

    @property
    def _points(self) -> list[float]:
        return [self._scaled(value) for value in self.values]

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.kind == "ratio" else value

    def one_sided(self, value: float) -> tuple[float, float]:
        """Return the p-values of "at most `value`" and of "at least `value`", by the t or sign test."""
        if self.kind == "median":
            above, below = sum(v > value for v in self.values), sum(v < value for v in self.values)
            n = max(above + below, 1)
            return tuple(
                float(stats.binomtest(k, n, alternative="greater").pvalue) for k in (above, below)
            )
        greater, less = (
            stats.ttest_1samp(self._points, self._scaled(value), alternative=side).pvalue
            for side in ("greater", "less")
        )
        return float(greater), float(less)

    def without_unstarted(self) -> "Evidence | None":
        """Return the number without the seeds that never started; None if none, or too few are left."""
        if not self.unstarted:
            return None
        pairs = zip(self.seeds, self.values, strict=True)
        kept = [(seed, value) for seed, value in pairs if seed not in self.unstarted]
        if len(kept) < FEWEST:
            return None
        seeds, values = zip(*kept, strict=True)
        return replace(self, seeds=seeds, values=values, unstarted=())

    def words(self) -> str:
        """Return the mean and the interval to three digits; of a count and a single run, the number."""
        if self.n == 1:
            return f"{self.mean:#.3g}"
        return f"{self.mean:#.3g} [{self.low:#.3g}, {self.high:#.3g}]"


def evidence_of(what: str, values: Sequence[float], **more: object) -> Evidence:
    """Return the evidence of one value per seed; ValueError with fewer than two."""
    if len(values) < 2:
        raise ValueError(f"an interval needs at least two values, got {len(values)}: add seeds")
    return Evidence(what, tuple(map(float, values)), **more)
