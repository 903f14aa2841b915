"""The claims of the papers, read from `docs/claims.toml`, with verdicts that may not outrun the data.

[[claim]]
id = "ridge-equivalence"
section = "Dropout (§3.1)"        # claims of one section stand together
paper = "ALLoRA"
where = "§3.1"
quote = "..."                     # the paper's words
claim = "..."                     # what they say, in plain words
function = "allora_lab/theory/dropout_optimum.py::equal_ridge"
command = "allora-lab figure dropout-ols"           # left out: derivation only
test = "tests/theory/test_dropout_optimum.py::test_whitened_dropout_is_the_ridge_of_the_paper"
notebook = "notebooks/01_dropout_needs_many_steps.ipynb"
verdict = "holds"
verdict_text = "..."              # {name:format} is a number of `claim_numbers`
evidence = [{ key = "mnist-mean-from-0", rule = "below", value = 1 }]
"""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from allora_lab.checks import require_kind, require_known
from allora_lab.experiments.allocation_cost import ALLOCATION_COST_EVIDENCE
from allora_lab.experiments.claim_evidence import EVIDENCE
from allora_lab.experiments.claim_flaws import FLAWS_EVIDENCE
from allora_lab.experiments.claim_ranks import RANK_EVIDENCE
from allora_lab.experiments.claim_rules import (
    CANNOT_TELL,
    CONTRADICTS,
    NOT_RECORDED,
    PREDICTED,
    RULES,
    SUPPORTS,
    Evidence,
)
from allora_lab.experiments.claim_sweeps import (
    DROPOUT_EVIDENCE,
    STABILITY_EVIDENCE,
    pooled_evidence,
)
from allora_lab.experiments.cost import COST_EVIDENCE
from allora_lab.experiments.sweep import read_toml
from allora_lab.files import REPOSITORY

CLAIMS = REPOSITORY / "docs" / "claims.toml"
VERDICTS = {
    "holds": "holds",
    "holds-only-if": "holds only if …",
    "does-not-hold": "does not hold",
    "not-testable-here": "not testable here",
    "open": "open",
}
PAPERS = ("ALLoRA", "ALoRA")
RECORDED = {
    **EVIDENCE,
    **DROPOUT_EVIDENCE,
    **STABILITY_EVIDENCE,
    **FLAWS_EVIDENCE,
    **COST_EVIDENCE,
    **ALLOCATION_COST_EVIDENCE,
    **RANK_EVIDENCE,
}


OF_SUBMISSION = "†"  # marks a sentence that the arXiv version no longer has


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One piece of evidence of a claim: what was measured (None: not yet), and what it says.

    `rule` is what the claim predicts of the number, in words: "above 0".
    """

    evidence: Evidence | None
    outcome: str
    name: str
    rule: str

    def words(self) -> str:
        """Return the number with its interval, what it says of the claim, and by which rule."""
        found = self.evidence
        if found is None:
            return f"{self.name}: {self.outcome}"
        measured = f"{found.what}: {found.words()}, {found.n} {found.units}"
        return f"{measured}: {self.outcome} (rule: {self.rule})"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of a paper, where to check it, and what came out; keys as in the file's head.

    `arxiv` says what the arXiv version has in the place of a sentence that only the submission has.
    """

    id: str
    section: str
    paper: str
    where: str
    quote: str
    claim: str
    verdict: str
    verdict_text: str
    function: str = ""
    command: str = ""
    test: str = ""
    notebook: str = ""
    arxiv: str = ""
    evidence: tuple[dict[str, Any], ...] = ()

    @property
    def words_on_arxiv(self) -> list[str]:
        """Return what the arXiv version has instead, as a sentence; nothing where it is the same."""
        return [f"{OF_SUBMISSION} Of the submission alone: the arXiv version {self.arxiv}"] * bool(
            self.arxiv
        )


def read_claims(path: Path = CLAIMS) -> list[Claim]:
    """Return the claims of a file in its order.

    Raises
    ------
    ValueError
        For a key, verdict, rule or piece of evidence that does not exist (naming the nearest), a
        missing key, a second claim of one id, or a verdict with nothing to check it by.
    """
    values = read_toml(path)
    for key in values:
        require_known("key of a file of claims", key, ("claim",))
    require_kind("claim", values.get("claim", []), list, "written as [[claim]]")
    claims = [_claim(row, number) for number, row in enumerate(values.get("claim", []), start=1)]
    ids = [claim.id for claim in claims]
    for name in ids:
        if ids.count(name) > 1:
            raise ValueError(f"two claims have the id {name!r}: give each its own")
    return claims


def _claim(row: dict[str, Any], number: int) -> Claim:
    name = f"claim {row.get('id', number)!r}"
    known = {field.name: field for field in fields(Claim)}
    for key, value in row.items():
        require_known(f"key of {name}", key, known)
        if key != "evidence":
            require_kind(f"{key} of {name}", value, str, "text")
    for key, field in known.items():
        if field.default is MISSING and not row.get(key):
            raise ValueError(f"{name} has no {key}: add {key} = ... under its [[claim]]")
    require_known(f"verdict of {name}", row["verdict"], VERDICTS)
    require_known(f"paper of {name}", row["paper"], PAPERS)
    evidence = row.get("evidence", [])
    require_kind(
        f"evidence of {name}", evidence, list, 'a list such as [{ key = "...", rule = "above" }]'
    )
    for item in evidence:
        _require_item(name, item)
    if row["verdict"] not in ("open", "not-testable-here") and not (evidence or row.get("test")):
        raise ValueError(f"{name} is judged by nothing: name a test or evidence, or leave it open")
    return Claim(**{**row, "evidence": tuple(evidence)})


def _require_item(name: str, item: Any) -> None:
    """Raise ValueError unless one piece of evidence is a key or a sweep's comparison, and a rule."""
    require_kind(
        f"evidence of {name}", item, dict, 'a table such as { key = "...", rule = "above" }'
    )
    for key in item:
        require_known(
            f"key of evidence of {name}",
            key,
            ("key", "sweep", "compare", "where", "rule", "value", "margin"),
        )
    if ("key" in item) == ("sweep" in item) or ("sweep" in item) != ("compare" in item):
        raise ValueError(
            f"evidence of {name} must have either key, or sweep and compare; got {item}"
        )
    if "key" in item:
        require_known(f"evidence of {name}", item["key"], RECORDED)
    require_kind(f"where of {name}", item.get("where", {}), dict, "a table such as { r = 8 }")
    require_known(f"rule of {name}", item.get("rule", ""), RULES)
    if (item["rule"] == "within") != ("margin" in item):
        raise ValueError(f"evidence of {name}: margin belongs to the rule within, and to it alone")


def judge(claim: Claim) -> list[Judged]:
    """Return what each piece of a claim's evidence says, and check the verdict against it.

    Raises
    ------
    ValueError
        If the verdict says more, or less, than the intervals allow; it names the claim.
    """
    judged = [_judged(item) for item in claim.evidence]
    _require_consistent(claim, [piece.outcome for piece in judged])
    return judged


def _judged(item: dict[str, Any]) -> Judged:
    if "key" in item:
        found, name = RECORDED[item["key"]](), item["key"]
    else:
        found = pooled_evidence(item["sweep"], item["compare"], item.get("where", {}))
        kept = "".join(f", {key} {value}" for key, value in item.get("where", {}).items())
        name = f"{item['sweep']}: {item['compare']}{kept}"
    value, margin = item.get("value", 0), item.get("margin", 0)
    outcome = RULES[item["rule"]](found, value, margin) if found else NOT_RECORDED
    rule = PREDICTED[item["rule"]].format(value=value, margin=margin)
    return Judged(evidence=found, outcome=outcome, name=name, rule=rule)


def _require_consistent(claim: Claim, outcomes: Sequence[str]) -> None:
    """Raise ValueError unless the verdict is one that the outcomes allow.

    holds: all support it.  holds-only-if: one does at least.  does-not-hold: one contradicts it and
    none supports it.  open: one is undecided or not recorded.  not-testable-here: there is none.
    """
    allowed = {
        "holds": all(outcome == SUPPORTS for outcome in outcomes),
        "holds-only-if": SUPPORTS in outcomes,
        "does-not-hold": CONTRADICTS in outcomes and SUPPORTS not in outcomes,
        "open": CANNOT_TELL in outcomes or NOT_RECORDED in outcomes,
        "not-testable-here": False,
    }
    if outcomes and not allowed[claim.verdict]:
        fitting = [verdict for verdict, fits in allowed.items() if fits]
        raise ValueError(
            f"claim {claim.id!r} has the verdict {claim.verdict!r}, but its evidence says: "
            f"{'; '.join(outcomes)}; choose {' or '.join(fitting)}, or look at the evidence again"
        )
