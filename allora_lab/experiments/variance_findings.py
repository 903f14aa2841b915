"""What the recorded runs say about the paper's sentence under Figure 1, computed from the numbers.

The sentence: "while the average variance of the gradient decreases slightly during training, the
worst case increases".  Average and worst case are over the entries of the gradient; both are
followed here as factors between two epochs, one factor a seed, with a 95 % t-interval of their
logarithms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from allora_lab.experiments.statistics import mean_interval
from allora_lab.experiments.variance_records import VarianceRecord


@dataclass(frozen=True)
class Change:
    """By what a quantity was multiplied: geometric mean over seeds and its 95 % t-interval."""

    factor: float
    low: float
    high: float

    @property
    def direction(self) -> str:
        """Return "rises" or "falls" if the whole interval lies on one side of 1, else "stays"."""
        if self.low > 1:
            return "rises"
        return "falls" if self.high < 1 else "stays"

    def words(self) -> str:
        """Return the change in words: direction, factor and interval."""
        verb = {"rises": "rises to", "falls": "falls to", "stays": "cannot be told from 1, at"}
        numbers = f"{self.factor:.3g} times (95 % interval {self.low:.3g} to {self.high:.3g})"
        return f"{verb[self.direction]} {numbers}"


def change_of(factors: Sequence[float]) -> Change:
    """Return the change from one factor a seed; ValueError with fewer than two or one not above 0."""
    if min(factors, default=0) <= 0:
        raise ValueError(f"factors must be above 0 to have logarithms, got {min(factors)}")
    mean, half = mean_interval([math.log(factor) for factor in factors])
    return Change(*(float(f"{math.exp(m):.6g}") for m in (mean, mean - half, mean + half)))


def change_between(
    records: Sequence[VarianceRecord], name: str, batch: int, first: int, last: int
) -> Change:
    """Return how `name` of `spread` changed from epoch `first` to epoch `last`, over the seeds."""
    columns = [record.column(name, batch) for record in records]
    return change_of([column[last] / column[first] for column in columns])


def verdict(mean: Change, worst: Change) -> str:
    """Return which half of the paper's sentence the two changes support."""
    halves = {
        "falls": "the average decreases, as the paper says",
        "rises": "the average increases, where the paper says it decreases",
        "stays": "the average neither decreases nor increases beyond chance",
    }
    worsts = {
        "rises": "the worst case increases, as the paper says",
        "falls": "the worst case decreases, where the paper says it increases",
        "stays": "the worst case neither increases nor decreases beyond chance",
    }
    link = "and" if (mean.direction == "falls") == (worst.direction == "rises") else "but"
    return f"{halves[mean.direction]}, {link} {worsts[worst.direction]}"


def sentences_of(label: str, records: Sequence[VarianceRecord], batch: int) -> list[str]:
    """Return what the seeds of one image set say, from epochs 0 and 1 to the last, and of noise."""
    last = records[0].config["epochs"]
    said = []
    for first, words in ((0, "the start"), (1, "epoch 1")):
        if first < last:
            mean, worst = (change_between(records, n, batch, first, last) for n in ("mean", "max"))
            said.append(
                f"{label}, from {words} to epoch {last}, {len(records)} seeds: the mean over entries "
                f"of the standard deviation {mean.words()}, the largest {worst.words()}. So "
                f"{verdict(mean, worst)}."
            )
    columns = [record.column("rms", batch) for record in records]
    variance = change_of([(column[-1] / column[0]) ** 2 for column in columns])
    signal = change_between(records, "gradient_norm", batch, 0, last)
    relative = change_between(records, "signal_to_noise", batch, 0, last)
    ratio = np.mean([record.column("signal_to_noise", batch) for record in records], axis=0)
    said.append(
        f"{label}, from the start to epoch {last}: the mean over entries of the variance "
        f"{variance.words()}, and the length of the mean gradient {signal.words()}. That length "
        f"over the noise of one mask {relative.words()}: from {ratio[0]:.2g} at the start and "
        f"{ratio[1]:.2g} after one epoch to {ratio[-1]:.2g}."
    )
    return said
