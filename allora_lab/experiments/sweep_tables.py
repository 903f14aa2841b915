"""Tables of any sweep: one row a setting, one row a comparison; in Markdown and CSV."""

import csv
import html
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from allora_lab.config import RunConfig
from allora_lab.experiments.comparison import (
    ABSENT,
    Row,
    Value,
    comparison_rows,
    is_pooled,
    points,
    require_one_machine,
    setting_text,
)
from allora_lab.experiments.comparison_config import METRICS, SETTINGS, Comparison
from allora_lab.experiments.pairing import by_setting
from allora_lab.experiments.records import RunRecord, found_records, recorded
from allora_lab.experiments.statistics import Estimate, mean_interval

HEADINGS = {
    "planned": "of",
    "accuracy_percent": "accuracy, %",
    "generated_accuracy_percent": "accuracy of what is written, %",
    "bleu_percent": "BLEU",
    "rouge_l_percent": "ROUGE-L",
    "meteor_percent": "METEOR",
    "eval_loss": "loss, nats",
    "train_seconds": "training, s",
    "peak_memory_mib": "peak memory, MiB",
    "difference_points": "difference, points [95 % interval]",
}
FORMATS = {
    "eval_loss": ".3f",
    "train_seconds": ".1f",
    "peak_memory_mib": ".0f",
    "d_z": ".2f",
    "p": ".3f",
    "q": ".3f",
}


@dataclass(frozen=True)
class SweepTables:
    """A sweep's name, its rows of settings and its rows of comparisons."""

    name: str
    cells: list[Row]
    comparisons: list[Row]

    def to_markdown(self) -> str:
        """Return both tables and what their numbers mean."""
        parts = [f"# {self.name}", to_markdown(self.cells)]
        if self.comparisons:
            parts += ["## Comparisons", to_markdown(self.comparisons)]
        return "\n\n".join([*parts, footnote(self.comparisons)]) + "\n"


def sweep_tables(
    name: str, configs: Sequence[RunConfig], comparisons: Sequence[Comparison]
) -> SweepTables:
    """Return the tables of what is recorded of a sweep; rows say how much is not.

    A run that another sweep recorded is read from there (see `find_record`).

    Raises
    ------
    ValueError
        As `read_record`, `cell_rows` and `comparison_rows`.
    """
    records = recorded(found_records(name, configs))
    rows = comparison_rows(comparisons, configs, records)
    return SweepTables(name, cell_rows(configs, records), rows)


def cell_rows(configs: Sequence[RunConfig], records: Iterable[RunRecord]) -> list[Row]:
    """Return one row a setting, with its method and whatever else varies in the sweep.

    Accuracy in percent with its t-interval over seeds, loss in nats, seconds of training and MiB
    are means over the seeds recorded, `n` of `planned`.

    Raises
    ------
    ValueError
        If a setting's records are of different devices or revisions.
    """
    by_id = {record.run_id: record for record in records}
    settings = by_setting(configs)
    columns = [name for name in SETTINGS if len({getattr(s, name) for s in settings}) > 1]
    columns = columns if "method" in columns else ["method", *columns]
    rows = []
    for setting, runs in settings.items():
        found = [by_id[run.run_id] for run in runs.values() if run.run_id in by_id]
        row: Row = {name: setting_text(getattr(setting, name)) for name in columns}
        what = ", ".join(f"{key} {value}" for key, value in row.items() if value)
        require_one_machine(what, found)
        rows.append({**row, "n": len(found), "planned": len(runs), **_measured(found)})
    return rows


def _measured(records: Sequence[RunRecord]) -> Row:
    present = [m for m in METRICS if any(f"eval_{m}" in record.metrics for record in records)]
    scores: Row = {
        f"{metric}_percent": _estimate([points(record, metric) for record in records])
        for metric in present or ("accuracy",)
    }
    return {
        **scores,
        "eval_loss": _mean([record.metrics["eval_loss"] for record in records]),
        "train_seconds": _mean([record.train_seconds for record in records]),
        "peak_memory_mib": _mean([record.peak_memory_bytes / 2**20 for record in records]),
        "device": "; ".join(sorted({record.device for record in records})) or None,
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _estimate(values: Sequence[float]) -> Estimate | None:
    if len(values) > 1:
        return Estimate(*mean_interval(values))
    return Estimate(values[0], None) if values else None


def footnote(rows: Sequence[Row]) -> str:
    """Return what the numbers of the tables mean; `rows` are those of the comparisons."""
    text = (
        "n: seeds recorded, of those planned. Intervals are 95 % t-intervals over seeds, with the "
        f"data and the evaluation sentences held fixed. {ABSENT}: not recorded, or no spread."
    )
    if not rows:
        return text
    tested = [row for row in rows if "q" in row]
    pooled = sum(is_pooled(row) for row in tested)
    return (
        f"{text}\n\nDifferences are ours - theirs, paired by seed; intervals are not adjusted for "
        "their number. d_z: mean over standard deviation of the differences. p: two-sided paired "
        f"t-test. q: p adjusted by Benjamini-Hochberg over {len(tested) - pooled} comparisons of "
        f"one setting, and over {pooled} pooled ones. Wins, ties and losses count seeds. A pooled "
        "row (settings above 1) averages the differences over settings within each seed first; "
        "there, wins, ties and losses count settings. Where all seeds differ by the same amount, "
        "the t-test cannot be done and none is shown."
    )


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def to_markdown(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table; what a row lacks shows as a dash."""
    columns = _columns(rows)
    cells = [[_shown(column, row.get(column)) for column in columns] for row in rows]
    lines = [[HEADINGS.get(column, column) for column in columns], ["---"] * len(columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines if columns)


def _shown(column: str, value: Value) -> str:
    if value is None:
        return ABSENT
    if column in ("p", "q") and isinstance(value, float) and value < 0.0005:
        return "<0.001"
    text = format(value, FORMATS[column]) if column in FORMATS else str(value)
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")  # stays one cell


def to_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV; an interval takes three columns: NAME, NAME_low and NAME_high."""
    columns = _columns(rows)
    spans = {c for c in columns if any(isinstance(row.get(c), Estimate) for row in rows)}
    names = {c: [c, f"{c}_low", f"{c}_high"] if c in spans else [c] for c in columns}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([name for c in columns for name in names[c]])
    for row in rows:
        values = [_numbers(row.get(c), len(names[c])) for c in columns]
        writer.writerow([_exact(value) for several in values for value in several])
    return stream.getvalue()


def _numbers(value: Value, width: int) -> list[Value]:
    if not isinstance(value, Estimate):
        return [value, *[None] * (width - 1)]
    if value.half is None:
        return [value.mean, None, None]
    return [value.mean, value.mean - value.half, value.mean + value.half]


def _exact(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)
