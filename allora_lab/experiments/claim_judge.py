"""What every row of evidence says, adjusted for all tests of its paper, and the verdicts that follow.

The p-values of all rows of a paper that decide a verdict are adjusted together by
Benjamini-Hochberg; a row that two claims share is one test.
"""

from collections.abc import Callable, Sequence
from typing import Any

from allora_lab.experiments.claim_file import LATE, Claim, read_claims
from allora_lab.experiments.claim_measures import measured, name_of
from allora_lab.experiments.claim_numbers import number
from allora_lab.experiments.claim_rows import Judged, PrintedSize, Verdict
from allora_lab.experiments.claim_rules import (
    CONTRADICTS,
    NOT_RECORDED,
    RULES,
    outcome,
    p_value,
    two_sided,
    verdict_of,
)
from allora_lab.experiments.evidence import Evidence
from allora_lab.experiments.statistics import adjusted

Key = tuple[str, str, float, float]  # of a test: what, rule, value, margin
Row = tuple[Claim, dict[str, Any], Evidence | None]


def judge_all(claims: Sequence[Claim]) -> dict[str, Verdict]:
    """Return the verdict on each claim by its id; claims without evidence keep the one in the file."""
    found = {id(item): measured(item) for claim in claims for item in claim.evidence}
    as_run = _judged(claims, found, lambda evidence: evidence)
    reduced = _judged(claims, found, lambda evidence: evidence.without_unstarted() or evidence)
    return {
        claim.id: _verdict(
            claim,
            as_run[claim.id],
            reduced[claim.id] if any(row.is_unstarted for row in as_run[claim.id]) else None,
        )
        for claim in claims
    }


def _verdict(claim: Claim, rows: list[Judged], reduced: list[Judged] | None) -> Verdict:
    named = {
        item["name"]: row.evidence
        for item, row in zip(claim.evidence, rows, strict=True)
        if "name" in item
    }
    named |= {item["name"]: measured(item) for item in claim.quoted}
    verdict, conditions = claim.verdict, []
    if claim.evidence:
        verdict, conditions = verdict_of([(row.when, row.outcome) for row in rows if row.decides])
    without = None if reduced is None else _verdict(claim, reduced, None)
    return Verdict(verdict=verdict, conditions=conditions, rows=rows, named=named, without=without)


def judge(claim: Claim, among: Sequence[Claim] | None = None) -> list[Judged]:
    """Return what each row of a claim's evidence says, and check the file's verdict against them.

    `among` are the claims whose tests are adjusted together; None for those of the file.

    Raises
    ------
    ValueError
        If the verdict is not the one that follows; it names the claim.
    """
    others = read_claims() if among is None else among
    found = judge_all([claim, *(other for other in others if other.id != claim.id)])[claim.id]
    require_followed(claim, found)
    return found.rows


def require_followed(claim: Claim, found: Verdict) -> None:
    """Raise ValueError unless the verdict in the file is the one that follows from the evidence."""
    if claim.verdict != found.verdict:
        said = "; ".join(row.outcome for row in found.rows)
        raise ValueError(
            f"claim {claim.id!r} has the verdict {claim.verdict!r}, but its evidence says: {said}; "
            f"so write {found.verdict!r}, and change its text"
        )


def _judged(
    claims: Sequence[Claim],
    found: dict[int, Evidence | None],
    of: Callable[[Evidence], Evidence],
) -> dict[str, list[Judged]]:
    """Return the rows of each claim, on what `of` makes of the evidence."""
    rows: dict[str, list[Row]] = {
        claim.id: [
            (claim, item, None if found[id(item)] is None else of(found[id(item)]))
            for item in claim.evidence
        ]
        for claim in claims
    }
    q: dict[tuple[str, Key], float] = {}
    for paper in {claim.paper for claim in claims}:
        of_paper = [row for c in claims if c.paper == paper for row in rows[c.id]]
        q |= {(paper, key): value for key, value in _adjusted(of_paper).items()}
    return {claim.id: [_row(*row, q) for row in rows[claim.id]] for claim in claims}


def _adjusted(rows: Sequence[Row]) -> dict[Key, float]:
    """Return the adjusted p-value of every test of some rows, each test counted once.

    Tests that decide a verdict are adjusted among themselves.  All others (rows chosen after the
    data, projections, sizes printed beside) are adjusted together with those, so that they cannot
    make the adjustment of a verdict milder.
    """
    tests: dict[Key, float] = {}
    deciding: set[Key] = set()
    for claim, item, evidence in rows:
        if evidence is None or not evidence.is_tested:
            continue
        _, rule, value, margin = key = _key(item, evidence)
        decides = item.get("chosen") != LATE and not evidence.is_projected
        tests[key] = RULES[rule].p_value(evidence, value, margin)
        deciding |= {key} if decides else set()
        if "printed" in item:
            size = number(item["printed"])
            tests[_printed_key(evidence, size)] = two_sided(evidence, size)
            deciding |= {_printed_key(evidence, size)} if decides and claim.about_size else set()
    family = {key: p for key, p in tests.items() if key in deciding}
    return _by_key(tests) | _by_key(family)


def _by_key(tests: dict[Key, float]) -> dict[Key, float]:
    return dict(zip(tests, adjusted(list(tests.values())), strict=True))


def _key(item: dict[str, Any], evidence: Evidence) -> Key:
    return evidence.what, item["rule"], float(item.get("value", 0)), float(item.get("margin", 0))


def _printed_key(evidence: Evidence, value: float) -> Key:
    return evidence.what, "printed", value, 0.0


def _row(
    claim: Claim,
    item: dict[str, Any],
    evidence: Evidence | None,
    q: dict[tuple[str, Key], float],
) -> Judged:
    _, rule, value, margin = key = _key(item, evidence or Evidence("", (0.0,)))
    p = adjusted_p = printed = None
    said = NOT_RECORDED
    if evidence is not None:
        p, adjusted_p = p_value(rule, evidence, value, margin), q.get((claim.paper, key))
        said = outcome(rule, evidence, value, margin, adjusted_p)
        printed = _printed(claim, item, evidence, q)
    if claim.about_size and printed is not None and printed.is_excluded:
        said = CONTRADICTS
    return Judged(
        evidence=evidence,
        outcome=said,
        name=name_of(item),
        rule=RULES[rule].words.format(value=value, margin=margin),
        when=item.get("when", ""),
        chosen=item.get("chosen", ""),
        p=p,
        adjusted_p=adjusted_p,
        printed=printed,
    )


def _printed(
    claim: Claim, item: dict[str, Any], evidence: Evidence, q: dict[tuple[str, Key], float]
) -> PrintedSize | None:
    if "printed" not in item:
        return None
    value = number(item["printed"])
    return PrintedSize(
        value=value,
        p=two_sided(evidence, value) if evidence.is_tested else None,
        adjusted_p=q.get((claim.paper, _printed_key(evidence, value))),
        is_outside=not evidence.low <= value <= evidence.high,
    )
