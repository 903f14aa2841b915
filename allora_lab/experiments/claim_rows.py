"""What one row of evidence says of a claim, and the verdict of all rows, as pages and panels show it."""

from dataclasses import dataclass

from allora_lab.experiments.claim_file import LATE, VERDICTS
from allora_lab.experiments.claim_rules import CONTRADICTS, LEVEL
from allora_lab.experiments.evidence import Evidence


@dataclass(frozen=True, kw_only=True)
class PrintedSize:
    """What the paper prints of a number, and whether our interval excludes it."""

    value: float
    p: float | None
    adjusted_p: float | None
    is_outside: bool

    @property
    def is_excluded(self) -> bool:
        """Return whether the interval excludes the value after adjustment."""
        return self.is_outside and self.adjusted_p is not None and self.adjusted_p < LEVEL

    def words(self) -> str:
        """Return what the interval says of the printed size."""
        if self.is_excluded:
            said = "excluded"
        else:
            said = "outside, but not after adjustment" if self.is_outside else "inside the interval"
        return f"{self.value:+.2f}: {said}"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One row of evidence: what was measured (None: not yet), what it says, and by which rule.

    `rule` is what the claim predicts of the number, in words: "above 0".  `p` and `adjusted_p` are
    None for what is not tested.  A row that was `chosen` after the data decides nothing.
    """

    evidence: Evidence | None
    outcome: str
    name: str
    rule: str
    when: str
    chosen: str
    p: float | None
    adjusted_p: float | None
    printed: PrintedSize | None

    @property
    def decides(self) -> bool:
        """Return whether the verdict rests on this row."""
        return self.chosen != LATE

    @property
    def is_unstarted(self) -> bool:
        """Return whether a run behind the number never started, and enough others are left."""
        return self.evidence is not None and self.evidence.without_unstarted() is not None

    @property
    def says(self) -> str:
        """Return what the row says: "supports", "contradicts", with how where it is by its size."""
        by_size = self.printed is not None and self.printed.is_excluded
        is_sure = self.adjusted_p is not None and self.adjusted_p < LEVEL
        how = ", by its size" if self.outcome == CONTRADICTS and by_size and not is_sure else ""
        return self.outcome.removesuffix(" it") + how

    def words(self) -> str:
        """Return the number with its interval, what it says of the claim, and by which rule."""
        found = self.evidence
        if found is None:
            return f"{self.name}: {self.outcome}"
        said = f"{found.what}: {found.words()}, {found.n} {found.units}: {self.outcome}"
        tested = [f"rule: {self.rule}"]
        if self.p is not None:
            tested.append(f"p = {shown_p(self.p)}, adjusted {shown_p(self.adjusted_p)}")
        if not self.decides:
            tested.append(f"chosen {self.chosen}, decides nothing")
        if self.printed:
            tested.append(f"the paper prints {self.printed.words()}")
        return f"{said} ({'; '.join(tested)})"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on a claim, the conditions it names, its rows, and all of it without some seeds.

    `named` are the measured numbers that the claim's text may quote.  `without` is the same claim
    judged without the seeds that never started to learn; None where there are none.
    """

    verdict: str
    conditions: list[str]
    rows: list[Judged]
    named: dict[str, Evidence | None]
    without: "Verdict | None" = None

    @property
    def words_without(self) -> list[str]:
        """Return what the verdict is without the seeds that never started; nothing where all did."""
        if self.without is None:
            return []
        rows = [row for row in self.rows if row.is_unstarted]
        seeds = sorted({seed for row in rows for seed in row.evidence.unstarted})
        noun, same = "seed" if len(seeds) == 1 else "seeds", self.without.verdict == self.verdict
        which = f"{noun} {', '.join(map(str, seeds))}, of which a run never started to learn"
        would = f"would {'still ' * same}be **{VERDICTS[self.without.verdict]}**"
        return [f"Without {which}, the verdict {would}."]


def shown_p(p: float | None) -> str:
    """Return a p-value for a page."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
