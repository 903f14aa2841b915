"""Means with intervals: the one place where statistics are computed, by SciPy."""

from collections.abc import Sequence

import numpy as np
from scipy import stats


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
