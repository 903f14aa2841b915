"""The table of results that docs/results.md shows: the paper's differences, and ours with intervals."""

from collections.abc import Callable
from dataclasses import dataclass

from allora_lab.experiments import dropout_epochs
from allora_lab.experiments.ablation import PAPER_METHOD, RIVALS, with_dropout
from allora_lab.experiments.collected import collect
from allora_lab.experiments.comparison import ComparisonResult
from allora_lab.experiments.epochs import at_epoch
from allora_lab.experiments.paper_numbers import DropoutRow, paper_differences, read_paper_table
from allora_lab.experiments.perception import (
    AT_LR,
    AT_SCALED_LR,
    BOTH_DROPOUT,
    ON_UPDATE,
    WITH_DROPOUT,
    by_optimizer,
)
from allora_lab.experiments.statistics import Estimate, PairedResult, adjusted, paired
from allora_lab.experiments.sweep_tables import to_markdown
from allora_lab.training.optimizers import OPTIMIZERS

HEADINGS = (
    "difference, points",
    "the paper",
    "here [95 % interval]",
    "settings × seeds",
    "ahead, equal, behind",
    "p, adjusted",
)


@dataclass(frozen=True)
class Headline:
    """One row: what is compared, the paper's mean difference, and ours over some settings."""

    what: str
    paper: str
    result: PairedResult
    counts: tuple[int, int, int]

    def cells(self) -> list[str]:
        """Return the row as text; the counts are of settings."""
        result = self.result
        half = result.high - result.mean_difference
        shown = str(Estimate(result.mean_difference, half, is_difference=True))
        wins, ties, losses = self.counts
        size = f"{sum(self.counts)} × {result.n}"
        return [self.what, self.paper, shown, size, f"{wins}, {ties}, {losses}"]


def _headline(what: str, paper: str, result: ComparisonResult) -> list[Headline]:
    return [Headline(what, paper, result.pooled, result.counts)] if result.pooled else []


def _paper(table: str, ours: str, theirs: str) -> str:
    found = paper_differences(table, ours, theirs)
    wins, ties, losses = found.counts
    return f"{found.mean:+.2f} ({wins}, {ties}, {losses})"


def _perception() -> list[Headline]:
    collected, rows = collect("perception"), []
    named = {
        WITH_DROPOUT: ("ALLoRA - LoRA + dropout at η × lr", _paper("perception", "ALLoRA", "LoRA")),
        BOTH_DROPOUT: (
            "ALLoRA + dropout - LoRA + dropout at η × lr",
            _paper("perception", "ALLoRA+D", "LoRA"),
        ),
        AT_SCALED_LR: ("ALLoRA - LoRA at η × lr", ""),
        AT_LR: ("ALLoRA - LoRA at lr", ""),
        ON_UPDATE: ("ALLoRA on the update (ours) - LoRA at η × lr", ""),
    }
    for name, (what, paper) in named.items():
        for optimizer, part in by_optimizer(collected.comparison(name)).items():
            rows += _headline(f"{what}, {OPTIMIZERS[optimizer].label}", paper, part)
    return rows


def _ablation() -> list[Headline]:
    collected, rows = collect("ablation"), []
    for name, rival in RIVALS.items():
        paper = _paper("ablation", PAPER_METHOD, rival)
        for ours, printed in ((with_dropout(name), paper), (name, "")):
            what = f"{ours}, AdamW".replace(" x eta", " × η")
            rows += _headline(what, printed, collected.comparison(ours))
    return rows


def _ranks() -> list[Headline]:
    collected, rows = collect("ranks"), []
    for ours, theirs in (("ALLoRA", "LoRA"), ("ALLoRA", "DoRA"), ("DoRA", "LoRA")):
        name = f"{ours} - {theirs}"
        paper = _paper("rank", ours, theirs)
        rows += _headline(f"{name}, five ranks, AdamW", paper, collected.comparison(name))
    return rows


def _dropout() -> list[Headline]:
    runs = dropout_epochs.by_dropout(collect("dropout-epochs").records)
    table = [row for row in read_paper_table("dropout") if isinstance(row, DropoutRow)]
    most, none = max(runs), min(runs)
    by_place = {row.dropout: row for row in table}
    printed: dict[int, Callable[[DropoutRow], float]] = {
        dropout_epochs.SHORT: lambda row: row.acc_epoch3,
        dropout_epochs.LONG: lambda row: row.acc_epoch10,
    }
    rows = []
    for epoch, accuracy in printed.items():
        paper = f"{accuracy(by_place[most]) - accuracy(by_place[none]):+.2f}"
        result = paired(
            *(at_epoch(runs[p], epoch) for p in (most, none)),
        )
        mean = result.mean_difference
        counts = (int(mean > 0), int(mean == 0), int(mean < 0))
        what = f"LoRA, dropout {most:g} - none, epoch {epoch}"
        rows.append(Headline(what, paper, result, counts))
    return rows


def headline_table() -> str:
    """Return the table in Markdown, from the records.

    Raises
    ------
    FileNotFoundError
        If an experiment has no record.
    """
    rows = [*_perception(), *_ablation(), *_ranks(), *_dropout()]
    adjusted_p = adjusted([row.result.p_value for row in rows])
    cells = [[*row.cells(), f"{q:.2f}"] for row, q in zip(rows, adjusted_p, strict=True)]
    return to_markdown([dict(zip(HEADINGS, line, strict=True)) for line in cells])
