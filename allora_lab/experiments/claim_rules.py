"""What recorded runs say of a claim: n seeds, a mean, a 95 % t-interval, and whether that supports it.

A claim predicts something of one number: that it is above or below a value, or near one.  The
interval then supports the claim, contradicts it, or cannot tell; a verdict may not say more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from allora_lab.experiments.statistics import mean_interval

SUPPORTS, CONTRADICTS, CANNOT_TELL = "supports it", "contradicts it", "cannot tell"
NOT_RECORDED = "not recorded yet"


@dataclass(frozen=True)
class Evidence:
    """One measured number: of what, over how many `units`, its mean and its 95 % interval."""

    what: str
    n: int
    mean: float
    low: float
    high: float
    units: str = "seeds"

    def words(self) -> str:
        """Return the mean and the interval to three digits."""
        return f"{self.mean:#.3g} ({self.low:#.3g} to {self.high:#.3g})"


def above(evidence: Evidence, value: float, _margin: float) -> str:
    """Judge "the number is above the value": by the whole interval, else it cannot be told."""
    if evidence.low > value:
        return SUPPORTS
    return CONTRADICTS if evidence.high < value else CANNOT_TELL


def below(evidence: Evidence, value: float, _margin: float) -> str:
    """Judge "the number is below the value": by the whole interval, else it cannot be told."""
    if evidence.high < value:
        return SUPPORTS
    return CONTRADICTS if evidence.low > value else CANNOT_TELL


def clearly_above(evidence: Evidence, value: float, margin: float) -> str:
    """Judge "significantly above": as `above`, but an interval that holds the value contradicts."""
    return SUPPORTS if above(evidence, value, margin) == SUPPORTS else CONTRADICTS


def contains(evidence: Evidence, value: float, _margin: float) -> str:
    """Judge "no evident difference from the value": whether the interval holds the value."""
    return SUPPORTS if evidence.low <= value <= evidence.high else CONTRADICTS


def within(evidence: Evidence, value: float, margin: float) -> str:
    """Judge "the number is the value, give or take the margin" by the whole interval."""
    if abs(evidence.low - value) <= margin and abs(evidence.high - value) <= margin:
        return SUPPORTS
    is_apart = evidence.low > value + margin or evidence.high < value - margin
    return CONTRADICTS if is_apart else CANNOT_TELL


RULES: dict[str, Callable[[Evidence, float, float], str]] = {
    "above": above,
    "below": below,
    "clearly-above": clearly_above,
    "contains": contains,
    "within": within,
}

PREDICTED = {
    "above": "above {value:g}",
    "below": "below {value:g}",
    "clearly-above": "clearly above {value:g}",
    "contains": "interval holds {value:g}",
    "within": "{value:g} ± {margin:g}",
}  # of the same keys


def evidence_of(what: str, values: Sequence[float]) -> Evidence:
    """Return the evidence of one value a seed; ValueError with fewer than two."""
    mean, half = mean_interval(values)
    return Evidence(what, len(values), mean, mean - half, mean + half)
