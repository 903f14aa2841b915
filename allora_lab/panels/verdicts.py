"""Panel of notebook 09: the papers' claims with their verdicts, as a table to choose from."""

import html
from collections import Counter
from collections.abc import Sequence
from functools import cache

import ipywidgets as widgets
from IPython.display import HTML

from allora_lab.experiments.claim_file import VERDICTS, Claim, read_claims
from allora_lab.experiments.claim_judge import judge_all, require_followed
from allora_lab.experiments.claim_numbers import filled_in
from allora_lab.experiments.claim_rows import Verdict
from allora_lab.panels.base import menu, reset_button
from allora_lab.panels.picture import Caption
from allora_lab.panels.tools import PANEL, tools

ALL = "all"
COLUMNS = {  # with their widths
    "where": "9%",
    "the claim, and the paper's words": "30%",
    "verdict": "9%",
    "what was measured": "34%",
    "how to check": "18%",
}
TABLE = "table-layout:fixed;width:100%"
CELL = (
    "text-align:left;vertical-align:top;padding:0.3em 0.5em;line-height:1.3;white-space:normal;"
    "overflow:auto hidden"  # a long formula is moved in its own cell, by keys too
)
CODE = "overflow-wrap:anywhere;white-space:normal"


@cache
def claims() -> tuple[Claim, ...]:
    """Return the claims of `docs/claims.toml`, read once."""
    return tuple(read_claims())


def chosen(verdict: str = ALL, section: str = ALL) -> list[Claim]:
    """Return the claims of a verdict and a section, in the file's order; "all" leaves out none.

    Raises
    ------
    ValueError
        For a verdict that does not exist.
    """
    if verdict not in (ALL, *VERDICTS):
        raise ValueError(
            f"unknown verdict {verdict!r}: choose one of {', '.join((ALL, *VERDICTS))}"
        )
    return [
        claim
        for claim in claims()
        if verdict in (ALL, claim.verdict) and section in (ALL, claim.section)
    ]


def counted(found: Sequence[Claim]) -> str:
    """Return how many claims there are, and how many of each verdict, in words."""
    count = Counter(claim.verdict for claim in found)
    parts = [f"{count[key]} {words}" for key, words in VERDICTS.items() if count[key]]
    noun = "claim" if len(found) == 1 else "claims"
    return f"{len(found)} {noun}{': ' if parts else ''}{', '.join(parts)}."


@cache
def _judged() -> dict[str, Verdict]:
    """Return what follows from the evidence of every claim, judged together and once."""
    return judge_all(claims())


@cache
def _row(claim_id: str) -> str:
    """Return a claim as a row of the table, with its evidence judged and its numbers computed."""
    claim = next(claim for claim in claims() if claim.id == claim_id)
    found = _judged()[claim_id]
    said = filled_in(claim.verdict_text, found.named)
    measured = [said, *claim.words_on_arxiv, *_evidence_of(claim, found)]
    cells = (
        html.escape(claim.where),
        f"{html.escape(claim.claim)}<br><i>{html.escape(claim.quote)}</i>",
        f"<b>{html.escape(VERDICTS[claim.verdict])}</b>",
        "<br>".join(html.escape(text) for text in measured),
        _how_to_check(claim),
    )
    return f"<tr>{''.join(map(_cell, cells))}</tr>"


def _evidence_of(claim: Claim, found: Verdict) -> list[str]:
    """Return each piece of evidence in words, or the sentence that the verdict does not fit it."""
    try:
        require_followed(claim, found)
    except ValueError as unfit:  # new records can overtake a verdict
        return [str(unfit)]
    without = [words.replace("**", "") for words in found.words_without]
    return [row.words() for row in found.rows] + without


def _cell(text: str) -> str:
    focus = ' tabindex="0"' if "$" in text else ""
    return f'<td style="{CELL}"{focus}>{text}</td>'


def _how_to_check(claim: Claim) -> str:
    command = claim.command or (f"pytest {claim.test}" if claim.test else "")
    return (
        f'<code style="{CODE}">{html.escape(command)}</code>'
        if command
        else "by the derivation alone"
    )


def table_of(found: Sequence[Claim]) -> str:
    """Return claims as an HTML table; all of the papers' and our words are escaped.

    A verdict that does not follow from its evidence, or no longer, has a sentence that says so.
    """
    head = "".join(
        f'<th style="{CELL};width:{width}">{name}</th>' for name, width in COLUMNS.items()
    )
    rows = "".join(_row(claim.id) for claim in found)
    return f"<table style='{TABLE}'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def show_claims(verdict: str = ALL, section: str = ALL) -> HTML:
    """Return the table of a verdict's and section's claims, for pages read without a kernel."""
    return HTML(table_of(chosen(verdict, section)))


class VerdictsPanel(widgets.VBox):
    """Which verdict and which section; the claims' table, and how many of each verdict there are."""

    def __init__(self) -> None:
        verdicts = {ALL: ALL, **{words: key for key, words in VERDICTS.items()}}
        sections = {name: name for name in (ALL, *dict.fromkeys(c.section for c in claims()))}
        self.controls = {
            "verdict": menu("verdict", verdicts, "does-not-hold"),
            "section": menu("section", sections, ALL),
        }
        self.table, self.caption, self.reset = widgets.HTMLMath(), Caption(), reset_button()
        self._start = {name: control.value for name, control in self.controls.items()}
        row = widgets.HBox(list(self.controls.values()))
        source = tools("", (judge_all,))
        super().__init__([row, self.reset, self.caption, self.table, source])
        self.add_class(PANEL)
        self.reset.on_click(self._on_reset)
        for control in self.controls.values():
            control.observe(self._on_change, names="value")
        self.refresh()

    def refresh(self) -> None:
        """Show the claims of the controls' current values."""
        found = chosen(**{name: control.value for name, control in self.controls.items()})
        self.caption.value = html.escape(counted(found))
        self.table.value = table_of(found) if found else ""

    def _on_change(self, _change: object) -> None:
        self.refresh()

    def _on_reset(self, _button: object) -> None:
        for name, value in self._start.items():
            self.controls[name].value = value
