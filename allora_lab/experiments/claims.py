"""`docs/fidelity.md`: what of the papers is here, and each of their claims with its verdict.

python -m allora_lab.experiments.claims        # writes it from claims.toml, the records and the head
"""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from allora_lab.experiments.claim_file import (
    OF_SUBMISSION,
    VERDICTS,
    Claim,
    Judged,
    judge,
    read_claims,
)
from allora_lab.experiments.claim_numbers import filled_in
from allora_lab.files import REPOSITORY, written_whole

DOCS = REPOSITORY / "docs"
PAGE, HEAD = DOCS / "fidelity.md", DOCS / "fidelity_head.md"
NOTHING = "–"
RULES_IN_WORDS = """\
A verdict may not say more than was measured. Where runs are recorded, a claim predicts something of one
number (that it is above 0, or within 5 % of 1), and its 95 % t-interval over n seeds *supports* the claim,
*contradicts* it, or *cannot tell*. **holds**: all of it supports the claim, or, without runs, a test proves
it. **holds only if …**: some does, and the text says when. **does not hold**: some contradicts it and none
supports it, or a test refutes it. **open**: the runs cannot tell, or are not recorded yet.
**not testable here**: it needs what a laptop has not.

Each number's rule stands behind it. *Above v*, *below v* and *v ± m* support or contradict by the whole interval,
and cannot tell where it reaches to both sides. *Clearly above v* is for a claim of significance, *interval holds v*
for one of no evident difference: an interval that holds v contradicts the first and supports the second.

Quotes of ALLoRA are of the ICLR submission unless the arXiv version is named; † marks what the arXiv version no
longer says. The submission's "ALLoRA" has dropout 0.05 and is `allora-dropout` here, its "ALLoRA-0" is `allora`.
This page is made by `python -m allora_lab.experiments.claims` from `docs/claims.toml`."""


def fidelity_markdown() -> str:
    """Return the page: the head, how verdicts are reached, a table and the details of each section.

    Raises
    ------
    ValueError
        As `read_claims`, or where a verdict contradicts its evidence.
    """
    claims = read_claims()
    parts = [
        HEAD.read_text().rstrip(),
        "## What the papers claim, and what came out",
        RULES_IN_WORDS,
    ]
    for paper, of_paper in groupby(claims, key=lambda claim: claim.paper):
        in_paper = list(of_paper)
        parts.append(f"{paper}, {_counted(in_paper)}.")
        for section, of_section in groupby(in_paper, key=lambda claim: claim.section):
            rows = [(claim, judge(claim)) for claim in of_section]
            parts += [f"### {paper}: {section}", _table(rows)]
            parts += [_details(claim, judged) for claim, judged in rows]
    return "\n\n".join(parts) + "\n"


def _counted(claims: Sequence[Claim]) -> str:
    found = Counter(claim.verdict for claim in claims)
    counts = [f"{words} {found[key]}" for key, words in VERDICTS.items() if found[key]]
    return f"{len(claims)} claims: {', '.join(counts)}"


def _table(rows: Sequence[tuple[Claim, list[Judged]]]) -> str:
    lines = [
        "| verdict | the claim, as it is tested | where | n | mean (95 % interval) |",
        "|---|---|---|---|---|",
    ]
    for claim, judged in rows:
        found = [piece.evidence for piece in judged if piece.evidence]
        seeds = "<br>".join(str(evidence.n) for evidence in found) or NOTHING
        numbers = "<br>".join(evidence.words() for evidence in found) or NOTHING
        says = f"[{claim.claim}](#{claim.id}){_mark(claim)}"
        lines.append(
            f"| **{VERDICTS[claim.verdict]}** | {says} | {claim.where} | {seeds} | {numbers} |"
        )
    return "\n".join(lines)


def _mark(claim: Claim) -> str:
    return f" {OF_SUBMISSION}" if claim.arxiv else ""


def _details(claim: Claim, judged: Sequence[Judged]) -> str:
    lines = [f"#### {claim.id}", f"> {claim.quote} ({claim.where})", ""]
    lines.append(f"**{VERDICTS[claim.verdict]}**: {filled_in(claim.verdict_text)}")
    lines += [part for words in claim.words_on_arxiv for part in ("", words)]
    lines += [""] + [f"- {piece.words()}" for piece in judged] if judged else []
    lines += ["", _where_to_look(claim)]
    return "\n".join(lines)


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


def verdict_table() -> str:
    """Return, for README, how many claims of each paper have each verdict, and those asked for first.

    Raises
    ------
    ValueError
        As `read_claims`.
    """
    claims = read_claims()
    counts = Counter((claim.paper, claim.verdict) for claim in claims)
    papers = list(dict.fromkeys(claim.paper for claim in claims))
    lines = [f"| | {' | '.join(VERDICTS.values())} |", "|---" * (len(VERDICTS) + 1) + "|"]
    for paper in papers:
        row = [str(counts[paper, key]) for key in VERDICTS]
        lines.append(f"| claims of {paper} | {' | '.join(row)} |")
    by_id = {claim.id: claim for claim in claims}
    lines += ["", "| | the claim, as it is tested | verdict |", "|---|---|---|"]
    for claim in map(by_id.__getitem__, IN_SHORT):
        says = f"[{claim.claim}](docs/fidelity.md#{claim.id}){_mark(claim)}"
        lines.append(f"| {claim.paper}, {claim.where} | {says} | **{VERDICTS[claim.verdict]}** |")
    return "\n".join(lines)


def main() -> None:
    """Write `docs/fidelity.md`, whole or not at all, and say where it is."""
    text = fidelity_markdown()
    with written_whole(PAGE) as partial:
        partial.write_text(text)
    print(f"wrote {PAGE.relative_to(REPOSITORY)}, {_counted(read_claims())}")


if __name__ == "__main__":
    main()
