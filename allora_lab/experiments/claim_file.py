"""The claims of the papers, read from `docs/claims.toml`.

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
verdict = "holds"                 # with evidence: the one that follows from it, or it is refused
verdict_text = "..."              # {name:format} is a number of `claim_numbers`
about_size = true                 # the paper's printed size decides too: excluded, it contradicts
evidence = [                      # one row each; see `claim_measures` for what a row may name
  { measure = "gradient-spread", of = { dataset = "mnist", over = "average", since = 0 },
    name = "mnist",               # verdict_text may say {mnist.mean:.2f}, {mnist.low:.2f}
    rule = "below", value = 1,    # above, below, or within with a margin
    when = "on MNIST",            # the condition that this row is under, named in the claim
    chosen = "after the data",    # such a row is shown, and decides nothing
    printed = "table3-mean" },    # what the paper prints: a name of `claim_numbers`
]
quoted = [{ name = "...", measure = "..." }]        # only quoted in verdict_text: no rule, no test
"""

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from allora_lab.checks import require_kind, require_known, require_type
from allora_lab.experiments.claim_measures import require_measure
from allora_lab.experiments.claim_rules import RULES
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
OF_SUBMISSION = "†"  # marks a sentence that the arXiv version no longer has
LATE = "after the data"
QUOTED = {
    **dict.fromkeys(("measure", "sweep", "compare", "name"), str),
    **dict.fromkeys(("of", "where"), dict),
}  # the keys of a quoted number, and their types
ITEM = {
    **QUOTED,
    **dict.fromkeys(("rule", "when", "chosen", "printed"), str),
    **dict.fromkeys(("value", "margin"), float),
}  # of a piece of evidence


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
    about_size: bool = False
    evidence: tuple[dict[str, Any], ...] = ()
    quoted: tuple[dict[str, Any], ...] = ()

    @property
    def is_judged_by_runs(self) -> bool:
        """Return whether recorded runs decide the claim, rather than a derivation or the print."""
        return bool(self.evidence)

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
        if key == "about_size":
            require_kind(f"{key} of {name}", value, bool, "true or false")
        elif key not in ("evidence", "quoted"):
            require_kind(f"{key} of {name}", value, str, "text")
    for key, field in known.items():
        if field.default is MISSING and not row.get(key):
            raise ValueError(f"{name} has no {key}: add {key} = ... under its [[claim]]")
    require_known(f"verdict of {name}", row["verdict"], VERDICTS)
    require_known(f"paper of {name}", row["paper"], PAPERS)
    evidence = row.get("evidence", [])
    require_kind(
        f"evidence of {name}",
        evidence,
        list,
        'a list such as [{ measure = "...", rule = "above" }]',
    )
    for item in evidence:
        _require_item(name, item)
    for item in row.get("quoted", []):
        _require_quoted(name, item)
    if row["verdict"] not in ("open", "not-testable-here") and not (evidence or row.get("test")):
        raise ValueError(f"{name} is judged by nothing: name a test or evidence, or leave it open")
    return Claim(**{**row, "evidence": tuple(evidence), "quoted": tuple(row.get("quoted", []))})


def _require_item(name: str, item: Any) -> None:
    """Raise ValueError unless one piece of evidence names what is measured, and a rule."""
    _require_keys(name, item, ITEM)
    require_measure(name, item)
    require_known(f"rule of {name}", item.get("rule", ""), RULES)
    if (item["rule"] == "within") != ("margin" in item):
        raise ValueError(f"evidence of {name}: margin belongs to the rule within, and to it alone")
    if "chosen" in item:
        require_known(f"chosen of {name}", item["chosen"], (LATE,))


def _require_quoted(name: str, item: Any) -> None:
    """Raise ValueError unless a number that a text quotes has a name, and names what is measured."""
    _require_keys(name, item, QUOTED)
    require_measure(name, item)
    if "name" not in item:
        raise ValueError(f"a quoted number of {name} has no name: add name = ...")


def _require_keys(name: str, item: Any, known: dict[str, type]) -> None:
    require_kind(
        f"evidence of {name}", item, dict, 'a table such as { measure = "...", rule = "above" }'
    )
    for key, value in item.items():
        require_known(f"key of evidence of {name}", key, known)
        if known[key] is dict:
            require_kind(f"{key} of {name}", value, dict, "a table such as { r = 8 }")
        else:
            require_type(f"{key} of evidence of {name}", value, known[key])
