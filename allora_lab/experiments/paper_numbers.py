"""The numbers the paper prints, typed, and the differences between its methods.

Names are arXiv's (2410.09692): ALLoRA is the method without dropout and ALLoRA+D the one with dropout
0.05.  The ICLR submission calls the same two ALLoRA-0 and ALLoRA, so what its text claims of
"ALLoRA" is in the rows of ALLoRA+D here.  LoRA of the perception table has dropout 0.05 and runs at
η × 1e-4; LoRAxeta of the ablation table has the fixed scaling factor η.

The paper prints means, of five runs in Tables 3 and 4, and no standard deviations: from its numbers
no interval can be computed, and a win is a mean that is higher by any amount.  Figure 3 prints
+0.14 for ALLoRA+D - LoRA in one cell (Snowflake-Arctic-L, Yelp, η² = 4) where Table 3 gives -0.15:
here the tables are followed.
"""

import csv
from collections.abc import Collection
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from statistics import fmean

from allora_lab.checks import require_known

FOLDER = Path(__file__).parent / "paper"
TASKS = ("boolq", "piqa", "siqa", "hellaswag", "winogrande", "arc_e", "arc_c", "obqa")


@dataclass(frozen=True)
class CommonsenseRow:
    """A row of Table 1: percent right on eight tasks, and the average as printed."""

    model: str
    rank: int
    method: str
    params_pct: float
    boolq: float
    piqa: float
    siqa: float
    hellaswag: float
    winogrande: float
    arc_e: float
    arc_c: float
    obqa: float
    avg: float

    @property
    def accuracy(self) -> float:
        """Return the average as printed."""
        return self.avg

    @property
    def tasks_mean(self) -> float:
        """Return the average of the eight tasks as printed, computed here."""
        return fmean(getattr(self, task) for task in TASKS)


@dataclass(frozen=True)
class DropoutRow:
    """A column of Table 2: LoRA on Bias in Bios at a dropout, accuracy in percent."""

    dropout: float
    acc_epoch3: float
    acc_epoch10: float
    max_acc: float
    epoch_of_max: int


@dataclass(frozen=True)
class AccuracyRow:
    """A cell of Table 3 (perception) or 4 (ablation): accuracy in percent, mean of five runs."""

    eta_squared: float
    method: str
    model: str
    dataset: str
    accuracy: float


@dataclass(frozen=True)
class RankRow:
    """A cell of the arXiv version's table of ranks: accuracy in percent at η = 1."""

    model: str
    dataset: str
    eta_squared: float
    rank: int
    method: str
    accuracy: float


MethodRow = CommonsenseRow | AccuracyRow | RankRow
PaperRow = MethodRow | DropoutRow

TABLES: dict[str, tuple[str, type]] = {
    "commonsense": ("allora_table1_commonsense.csv", CommonsenseRow),
    "dropout": ("allora_table2_dropout.csv", DropoutRow),
    "perception": ("allora_table3_perception.csv", AccuracyRow),
    "ablation": ("allora_table4_ablation.csv", AccuracyRow),
    "rank": ("allora_rank_table.csv", RankRow),
}
CELLS = ("eta_squared", "model", "dataset", "rank")  # what may tell two cells of a table apart


@dataclass(frozen=True)
class PaperDifferences:
    """By how many percentage points one method is above another, cell by cell.

    A key of `differences` has what the table gives of eta_squared, model, dataset and rank, in this
    order.
    """

    differences: dict[tuple[float | str, ...], float]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Return wins, ties and losses."""
        values = self.differences.values()
        return sum(v > 0 for v in values), sum(v == 0 for v in values), sum(v < 0 for v in values)

    @property
    def mean(self) -> float:
        """Return the mean difference."""
        return fmean(self.differences.values())


def read_paper_table(name: str) -> list[PaperRow]:
    """Return the rows of a table of the paper in its order.

    Raises
    ------
    ValueError
        For a name that is not in TABLES.
    """
    require_known("table of the paper", name, TABLES)
    file, row_class = TABLES[name]
    types = {field.name: field.type for field in fields(row_class)}
    with (FOLDER / file).open(newline="") as stream:
        rows = [{_field(k): v for k, v in row.items()} for row in csv.DictReader(stream)]
    return [row_class(**{key: types[key](value) for key, value in row.items()}) for row in rows]


def _field(column: str) -> str:
    """Return the name in code of a column as printed."""
    return "eta_squared" if column == "eta2" else column.lower().replace("-", "_")


def paper_differences(
    table: str, ours: str, theirs: str, *, without_models: Collection[str] = ()
) -> PaperDifferences:
    """Return ours - theirs in every cell of a table, exact to the digits printed.

    Raises
    ------
    ValueError
        For an unknown table, method or model, or a table that does not compare methods.
    """
    rows = [row for row in read_paper_table(table) if not isinstance(row, DropoutRow)]
    if not rows:
        raise ValueError(f"the table {table!r} has one method: name a table that compares methods")
    for method in (ours, theirs):
        require_known(f"method of the table {table!r}", method, {row.method: None for row in rows})
    for model in without_models:
        require_known(f"model of the table {table!r}", model, {row.model: None for row in rows})
    ours_by_cell, theirs_by_cell = (
        {_cell(row): row.accuracy for row in rows if row.method == method}
        for method in (ours, theirs)
    )
    kept = {_cell(row) for row in rows if row.model not in without_models}
    return PaperDifferences(
        {
            cell: float(Decimal(str(accuracy)) - Decimal(str(theirs_by_cell[cell])))
            for cell, accuracy in ours_by_cell.items()
            if cell in kept and cell in theirs_by_cell
        }
    )


def _cell(row: MethodRow) -> tuple[float | str, ...]:
    names = {field.name for field in fields(row)}
    return tuple(getattr(row, name) for name in CELLS if name in names)
