"""From a measured number to what it says of a claim, and from all numbers of a claim to its verdict.

A rule says beforehand what a claim predicts of a number: that it is above or below a value, or equal
to it within a margin.  The number *supports* or *contradicts* the prediction only if its whole 95 %
interval lies on one side and its p-value, adjusted for all tests of the paper by
Benjamini-Hochberg, is below LEVEL.  Otherwise it *cannot tell*.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from allora_lab.experiments.evidence import Evidence

SUPPORTS, CONTRADICTS, CANNOT_TELL = "supports it", "contradicts it", "cannot tell"
NOT_RECORDED, ONE_MEASUREMENT = "not recorded yet", "one measurement, not judged"
LEVEL = 0.05  # of the adjusted p-value
MARGIN = 0.5  # points of accuracy that count as no difference, unless a claim states another


@dataclass(frozen=True)
class Rule:
    """What a claim predicts of a number: in words, by the interval, and by a p-value.

    `side` returns 1 where the whole interval agrees with the prediction, -1 where all of it
    disagrees, else 0; `p_value` is of the test behind that.
    """

    words: str
    side: Callable[[Evidence, float, float], int]
    p_value: Callable[[Evidence, float, float], float]


def _sign(evidence: Evidence, value: float) -> int:
    return (evidence.low > value) - (evidence.high < value)


def two_sided(evidence: Evidence, value: float, _margin: float = 0.0) -> float:
    """Return the p-value of "the number is `value`"."""
    return min(1.0, 2 * min(evidence.one_sided(value)))


def _within(evidence: Evidence, value: float, margin: float) -> int:
    low, high = value - margin, value + margin
    if low <= evidence.low and evidence.high <= high:
        return 1
    return -1 if evidence.low > high or evidence.high < low else 0


def _equivalence(evidence: Evidence, value: float, margin: float) -> float:
    """Return TOST's p; where the mean lies outside the margin, the p of the nearer end."""
    low, high = value - margin, value + margin
    if low <= evidence.mean <= high:
        return max(evidence.one_sided(low)[0], evidence.one_sided(high)[1])
    return two_sided(evidence, low if evidence.mean < low else high)


RULES = {
    "above": Rule("above {value:g}", lambda e, v, _: _sign(e, v), two_sided),
    "below": Rule("below {value:g}", lambda e, v, _: -_sign(e, v), two_sided),
    "within": Rule("{value:g} ± {margin:g}", _within, _equivalence),
}


def p_value(rule: str, evidence: Evidence, value: float, margin: float) -> float | None:
    """Return the p-value behind a rule; None for a count, one value, or values without a spread."""
    return RULES[rule].p_value(evidence, value, margin) if evidence.is_tested else None


def outcome(
    rule: str, evidence: Evidence, value: float, margin: float, adjusted_p: float | None
) -> str:
    """Return what a number says of the claim, given the p-value adjusted for all of the paper's tests.

    A count is exact, so the rule alone decides.  One measured value is not judged.
    """
    if evidence.n == 1 and evidence.kind != "count":
        return ONE_MEASUREMENT
    is_sure = evidence.kind == "count" or (adjusted_p is not None and adjusted_p < LEVEL)
    side = RULES[rule].side(evidence, value, margin) if is_sure else 0
    return {1: SUPPORTS, -1: CONTRADICTS, 0: CANNOT_TELL}[side]


def verdict_of(rows: Sequence[tuple[str, str]]) -> tuple[str, list[str]]:
    """Return the one verdict that follows from rows of (condition, outcome), and its conditions.

    A condition ("" for none) is named in the claim, and is judged as a whole: it is met where every
    row under it supports the claim.

    - holds: every row supports the claim.
    - does not hold: every row contradicts it.
    - holds only if: a condition is met, another or a row without one is not, and no row without a
      condition supports the claim.
    - open: anything else.
    """
    outcomes = {said for _, said in rows}
    if outcomes == {SUPPORTS}:
        return "holds", []
    if outcomes == {CONTRADICTS}:
        return "does-not-hold", []
    conditions = dict.fromkeys(name for name, _ in rows if name)
    met = [c for c in conditions if all(said == SUPPORTS for name, said in rows if name == c)]
    if met and ("", SUPPORTS) not in rows:
        return "holds-only-if", met
    return "open", []
