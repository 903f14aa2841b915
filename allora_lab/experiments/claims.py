"""`docs/fidelity.md`: what of the papers is here, and each of their claims with its verdict.

`allora-lab pages` writes it from claims.toml, the records and the head.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from allora_lab.experiments.claim_file import OF_SUBMISSION, VERDICTS, Claim, read_claims
from allora_lab.experiments.claim_judge import judge_all, require_followed
from allora_lab.experiments.claim_numbers import filled_in
from allora_lab.experiments.claim_rows import Judged, Verdict, shown_p
from allora_lab.files import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGE, HEAD = DOCS / "fidelity.md", DOCS / "fidelity_head.md"
NOTHING = "–"
RULES_IN_WORDS = """\
A verdict may not say more than was measured. Formulas are settled by a test or by the papers' own print. A claim
about training is turned into rows: each is one number, with a rule for what the claim predicts of it.

**A row.** The number has one value per seed, a mean and a 95 % interval. *Above v* and *below v* are decided by the
whole interval: on the predicted side it *supports* the claim, on the other side it *contradicts* it, and if it
includes v it *cannot tell*. That two things are the same can only be shown with a margin: *v ± m* is supported if the
whole interval lies within the margin and contradicted if all of it lies outside. Where a claim states no margin we use
half a point of accuracy. A single measurement has no interval and is not judged, unless it is an exact count.

**Many rows.** With this many rows, some would exclude 0 by chance. Each row therefore has its p-value (a t-test of the
seeds; a sign test of medians; for *v ± m* two one-sided tests) and the p-value adjusted by Benjamini-Hochberg for all
rows of the same paper that decide a verdict. A row supports or contradicts a claim only if its adjusted p-value is
below 0.05 as well. Rows that decide nothing, printed sizes and projections are adjusted together with all the others,
and do not make the adjustment of a verdict milder.

**A verdict.** Exactly one follows from the rows, and the code rejects any other. **holds**: every row supports the
claim; without rows, a test proves it. **does not hold**: every row contradicts it, or a test refutes it.
**holds only if …**: the rows stand under named conditions, each judged as a whole, and under at least one of them every
row supports the claim; outside it is contradicted or the runs cannot tell, as the text says. **open**: anything else.
**not testable here**: it needs more than a laptop. Conditions are factors that the experiments vary by design, such as
the optimizer or how many examples score; most were written down here after the runs had been made. A row that was
chosen after the data had been seen is marked, and decides nothing.

**The paper's size.** Where the paper prints a difference, a row also says whether our interval excludes it. That is
decisive only for claims about the size of a difference. **Seeds that never started**: a run that ends at the share of
the largest class has learned nothing. It is kept, and the rows and the verdict without its seed are printed beside.

Quotes of ALLoRA are of the ICLR submission unless the arXiv version is named; † marks what the arXiv version no
longer says. The submission's "ALLoRA" has dropout 0.05 and is `allora-dropout` here, its "ALLoRA-0" is `allora`.
This page is made by `allora-lab pages` from `docs/claims.toml`."""


def fidelity_markdown() -> str:
    """Return the page: the head, how verdicts are reached, a table and the details of each section.

    Raises
    ------
    ValueError
        As `read_claims`, or where a verdict is not the one that follows from its evidence.
    """
    claims = read_claims()
    found = judge_all(claims)
    parts = [
        HEAD.read_text().rstrip(),
        "## What the papers claim, and what came out",
        RULES_IN_WORDS,
    ]
    for paper, of_paper in groupby(claims, key=lambda claim: claim.paper):
        in_paper = list(of_paper)
        parts.append(f"{paper}, {_counted(in_paper)}.")
        for section, of_section in groupby(in_paper, key=lambda claim: claim.section):
            rows = list(of_section)
            parts += [f"### {paper}: {section}", _table(rows, found)]
            parts += [_details(claim, found[claim.id]) for claim in rows]
    return "\n\n".join(parts) + "\n"


def _counted(claims: Sequence[Claim]) -> str:
    """Return how many claims have each verdict, those decided by runs apart from the others."""
    said = []
    for (_, words), count in verdict_counts(claims).items():
        counts = [f"{name} {count[key]}" for key, name in VERDICTS.items() if count[key]]
        said.append(f"{count.total()} {words} ({', '.join(counts)})")
    return f"{len(claims)} claims: {'; '.join(said)}"


def _table(claims: Sequence[Claim], found: dict[str, Verdict]) -> str:
    lines = [
        "| verdict | the claim, as it is tested | where | what its rows say |",
        "|---|---|---|---|",
    ]
    for claim in claims:
        says = f"[{claim.claim}](#{claim.id}){_mark(claim)}"
        cells = f"**{VERDICTS[claim.verdict]}**", says, claim.where, _said(found[claim.id].rows)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _said(rows: Sequence[Judged]) -> str:
    """Return how many deciding rows say what."""
    count = Counter(row.outcome for row in rows if row.decides)
    return ", ".join(f"{n} × {outcome}" for outcome, n in count.items()) or NOTHING


def _mark(claim: Claim) -> str:
    return f" {OF_SUBMISSION}" if claim.arxiv else ""


def _details(claim: Claim, found: Verdict) -> str:
    require_followed(claim, found)
    lines = [f"#### {claim.id}", f"> {claim.quote} ({claim.where})", ""]
    lines.append(f"**{VERDICTS[claim.verdict]}**: {filled_in(claim.verdict_text, found.named)}")
    lines += [part for words in claim.words_on_arxiv for part in ("", words)]
    if found.rows:
        lines += ["", _rows(found)]
    lines += [part for words in found.words_without for part in ("", words)]
    lines += ["", _where_to_look(claim)]
    return "\n".join(lines)


def _rows(found: Verdict) -> str:
    """Return the rows of a claim as a table; columns that no row fills are left out."""
    rows = found.rows
    columns = {
        "condition": [row.when for row in rows],
        "measured": [row.evidence.what if row.evidence else row.name for row in rows],
        "n": [f"{row.evidence.n} {row.evidence.units}" if row.evidence else "" for row in rows],
        "mean [95 % interval]": [row.evidence.words() if row.evidence else "" for row in rows],
        "predicted": [row.rule for row in rows],
        "p": [shown_p(row.p) for row in rows],
        "adjusted p": [shown_p(row.adjusted_p) for row in rows],
        "so it": [_outcome(row) for row in rows],
        "the paper prints": [row.printed.words() if row.printed else "" for row in rows],
        "without the seed that never started": _reduced(found),
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    lines = [list(shown), ["---"] * len(shown), *zip(*shown.values(), strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _outcome(row: Judged) -> str:
    if row.decides:
        return row.says
    return f"({row.says}) chosen {row.chosen}, decides nothing"


def _reduced(found: Verdict) -> list[str]:
    """Return what each row is without the seeds that never started; "" where it has none."""
    if found.without is None:
        return [""] * len(found.rows)
    return [
        f"{after.evidence.words()}: {_outcome(after)}" if row.is_unstarted else ""
        for row, after in zip(found.rows, found.without.rows, strict=True)
    ]


def _where_to_look(claim: Claim) -> str:
    parts = [f"`{claim.command}`" if claim.command else "derivation only, no command"]
    for kind, place in (("function", claim.function), ("test", claim.test)):
        if place:
            path, name = place.split("::")
            parts.append(f"{kind} [`{name}`](../{path})")
    if claim.notebook:
        number = claim.notebook.removeprefix("notebooks/")[:2]
        parts.append(f"[notebook {number}](../{claim.notebook})")
    return " · ".join(parts)


IN_SHORT = (
    "degenerate-with-few-samples",
    "starts-at-a-saddle",
    "ripple-worst-case",
    "limiting-for-llms",
    "unstable-in-finetuning",
    "escape-matches-eta-lr",
    "converges-more-quickly",
    "beats-lora-by-03",
    "as-light-as-lora",
    "ablation-scores-are-effective",
    "ablation-beats-chance",
    "alora-beats-lora",
    "attention-gains-ranks",
)  # what a reader of the two abstracts would ask first


BY_RUNS, BY_DERIVATION = "claims tested by runs", "derivations and misprints"


def verdict_counts(claims: Sequence[Claim]) -> dict[tuple[str, str], Counter[str]]:
    """Return how many claims have each verdict, by paper and by what decides them.

    A derivation, a misprint or a claim that cannot be tested here is no result of a run, so the two
    are counted apart.
    """
    counts: dict[tuple[str, str], Counter[str]] = {}
    for paper in dict.fromkeys(claim.paper for claim in claims):
        for words, by_runs in ((BY_RUNS, True), (BY_DERIVATION, False)):
            counts[paper, words] = Counter(
                claim.verdict
                for claim in claims
                if claim.paper == paper and claim.is_judged_by_runs is by_runs
            )
    return counts


def verdict_table() -> str:
    """Return, for README, how many claims of each paper have each verdict, and those asked for first.

    Raises
    ------
    ValueError
        As `read_claims`.
    """
    claims = read_claims()
    lines = [f"| | {' | '.join(VERDICTS.values())} |", "|---" * (len(VERDICTS) + 1) + "|"]
    for (paper, words), row in verdict_counts(claims).items():
        lines.append(f"| {paper}, {words} | {' | '.join(str(row[key]) for key in VERDICTS)} |")
    by_id = {claim.id: claim for claim in claims}
    lines += ["", "| | the claim, as it is tested | verdict |", "|---|---|---|"]
    for claim in map(by_id.__getitem__, IN_SHORT):
        says = f"[{claim.claim}](docs/fidelity.md#{claim.id}){_mark(claim)}"
        lines.append(f"| {claim.paper}, {claim.where} | {says} | **{VERDICTS[claim.verdict]}** |")
    return "\n".join(lines)
