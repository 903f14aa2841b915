"""Means, differences and their intervals: the one place where statistics are computed, by SciPy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

ROUNDING = 1e-12  # of the largest value: what arithmetic alone can make of equal numbers


@dataclass(frozen=True)
class PairedResult:
    """How much one side is above the other, over seeds that both have.

    Attributes
    ----------
    n
        How many seeds both sides have.
    mean_difference, low, high
        Mean of ours - theirs and its 95 % t-interval over seeds, in the unit of the values.
    wins, ties, losses
        How many seeds have ours above, at and below theirs.
    effect_size
        Cohen's d_z: the mean difference over the standard deviation of the differences.  None where
        that deviation is 0.
    p_value
        Of the two-sided paired t-test.
    """

    n: int
    mean_difference: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int
    effect_size: float | None
    p_value: float

    @property
    def is_constant(self) -> bool:
        """Return whether every seed differs by the same amount, not 0.

        Then the interval has no width and p is 0, the t-test's limit, which says nothing of seeds
        not tried: accuracies come in steps of one sentence, so that few seeds agree by chance.
        """
        return self.effect_size is None and self.mean_difference != 0


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return the mean and the half-width of its t-interval over independent seeds.

    Raises
    ------
    ValueError
        With fewer than two values, of which no spread can be said.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least two values, got {len(values)}: add seeds")
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values)
    return float(np.mean(values)), float(half)


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median and the ends of its 95 % interval, whatever the values' distribution.

    For values with outliers, such as times on a busy machine.  The ends are two of the values, by
    the binomial distribution of how many lie below the median (`scipy.stats.quantile_test`).

    Raises
    ------
    ValueError
        With fewer than six values, of which no two are far enough out.
    """
    if len(values) < 6:
        raise ValueError(
            f"the interval of a median needs six values, got {len(values)}: add rounds"
        )
    low, high = stats.quantile_test(values, q=float(np.median(values))).confidence_interval(0.95)
    return float(np.median(values)), float(low), float(high)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> PairedResult:
    """Return how much `ours` is above `theirs`, seed by seed; seeds only one side has are left out.

    Differences within rounding (1e-12 of the largest value) of each other count as equal.  With no
    spread, p is 1 where every difference is 0 and 0 where they are all another number.

    Raises
    ------
    ValueError
        With fewer than two seeds in common, or a value that is not finite.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if len(seeds) < 2:
        raise ValueError(
            f"a paired comparison needs two seeds that both sides have, got {len(seeds)}: run more"
        )
    values = np.array([[side[seed] for seed in seeds] for side in (ours, theirs)], dtype=float)
    if not np.isfinite(values).all():
        raise ValueError("a value to compare is not finite: run that seed again, or leave it out")
    noise = ROUNDING * np.abs(values).max()
    differences = values[0] - values[1]
    differences[np.abs(differences) <= noise] = 0.0
    if np.ptp(differences) <= noise:
        mean, half, effect_size = float(differences[0]), 0.0, None
        p_value = 0.0 if mean else 1.0
    else:
        mean, half = mean_interval(differences.tolist())
        effect_size = mean / float(differences.std(ddof=1))
        p_value = float(stats.ttest_1samp(differences, 0.0).pvalue)
    return PairedResult(
        n=len(seeds),
        mean_difference=mean,
        low=mean - half,
        high=mean + half,
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences < 0).sum()),
        effect_size=effect_size,
        p_value=p_value,
    )


def pooled(rows: Sequence[tuple[Mapping[int, float], Mapping[int, float]]]) -> PairedResult:
    """Return the mean difference over several settings, its interval over seeds.

    Settings share their seeds, so they are no independent trials: the differences are averaged over
    the settings within each seed first.  Only seeds that both sides of every setting have are used,
    so that each seed's average is over the same settings.

    Raises
    ------
    ValueError
        Without a setting, or as `paired`.
    """
    if not rows:
        raise ValueError("there is no setting to pool: give at least one")
    seeds = set.intersection(*(set(ours) & set(theirs) for ours, theirs in rows))
    ours, theirs = (
        {seed: float(np.mean([row[side][seed] for row in rows])) for seed in seeds}
        for side in (0, 1)
    )
    return paired(ours, theirs)


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Benjamini-Hochberg (1995), in the same order.

    Calling those at most q discoveries keeps the expected share of false ones at most q.  Computed
    by `scipy.stats.false_discovery_control`.

    Raises
    ------
    ValueError
        If one is not between 0 and 1.
    """
    for p_value in p_values:
        if not 0 <= p_value <= 1:
            raise ValueError(f"a p-value must be between 0 and 1, got {p_value}")
    if not p_values:
        return []
    return [float(q) for q in stats.false_discovery_control(p_values, method="bh")]


@dataclass(frozen=True)
class Estimate:
    """A mean and the half-width of its interval (None: not known, as of one seed)."""

    mean: float
    half: float | None
    is_difference: bool = False

    @property
    def digits(self) -> int:
        """Return the decimals that show two digits of the half-width; 2 where there is none."""
        if not self.half:
            return 2
        return min(4, max(0, 1 - math.floor(math.log10(self.half))))

    def __str__(self) -> str:
        if not self.is_difference:
            half = "" if self.half is None else f" ± {self.half:.{self.digits}f}"
            return f"{self.mean:.{self.digits}f}{half}"
        shown = [self.mean]
        if self.half is not None:
            shown += [self.mean - self.half, self.mean + self.half]
        texts = [f"{value:+.{self.digits}f}" for value in shown]
        return texts[0] if self.half is None else f"{texts[0]} [{texts[1]}, {texts[2]}]"
