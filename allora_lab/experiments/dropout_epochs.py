"""LoRA with dropout over ten epochs: the paper's Figure 2 left and Table 2, and ours beside it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from allora_lab.experiments.collected import collect, interval_text, verdict
from allora_lab.experiments.epochs import accuracy_by_epoch, at_epoch, epoch_line, epoch_of_best
from allora_lab.experiments.paper_numbers import DropoutRow, read_paper_table
from allora_lab.experiments.records import RunRecord
from allora_lab.experiments.statistics import paired

SWEEP = "dropout-epochs"
SHORT, LONG = 3, 10  # the epochs of Table 2


def by_dropout(records: Sequence[RunRecord]) -> dict[float, list[RunRecord]]:
    """Return the runs of each dropout probability, of which two seeds or more are there."""
    found: dict[float, list[RunRecord]] = {}
    for record in sorted(records, key=lambda r: r.config["lora_dropout"]):
        found.setdefault(record.config["lora_dropout"], []).append(record)
    return {p: runs for p, runs in found.items() if len(runs) > 1}


def _line(place: int, dropout: float, records: Sequence[RunRecord]) -> dict[str, Any]:
    line = epoch_line(f"dropout {dropout:g}", place, [accuracy_by_epoch(r)[1:] for r in records])
    return {**line, "marks": [int(np.argmax(line["mean"])) + 1]}


def _paper_line(place: int, row: DropoutRow) -> dict[str, Any]:
    points = {SHORT: row.acc_epoch3, LONG: row.acc_epoch10, row.epoch_of_max: row.max_acc}
    epochs = sorted(points)
    return {
        "label": f"dropout {row.dropout:g}",
        "colour": place,
        "x": epochs,
        "mean": [points[epoch] for epoch in epochs],
        "half": None,
        "marks": [row.epoch_of_max],
    }


def _at(runs: dict[float, list[RunRecord]], epoch: int) -> list[str]:
    most, none = max(runs), min(runs)
    ours, theirs = at_epoch(runs[most], epoch), at_epoch(runs[none], epoch)
    if most == none or len(ours.keys() & theirs.keys()) < 2:
        return []
    result = paired(ours, theirs)
    said = f"After epoch {epoch}, dropout {most:g} is {verdict(result)} dropout {none:g}"
    return [f"{said}: {interval_text(result)}, {result.n} seeds."]


def best_epochs_sentence(runs: dict[float, list[RunRecord]]) -> str:
    """Say whether the best epoch comes later with more dropout, run by run (Spearman)."""
    pairs = [(p, epoch_of_best(record)) for p, several in runs.items() for record in several]
    test = stats.spearmanr(*zip(*pairs, strict=True))
    means = ", ".join(
        f"{np.mean([epoch_of_best(r) for r in several]):.1f} at {p:g}"
        for p, several in runs.items()
    )
    return (
        f"The best epoch of a run is on average {means}: rank correlation with dropout "
        f"{test.statistic:+.2f} (p = {test.pvalue:.2f}, {len(pairs)} runs)."
    )


def _paper_sentence(rows: Sequence[DropoutRow]) -> str:
    best, early = max(rows, key=lambda row: row.acc_epoch10), [row.acc_epoch3 for row in rows]
    return (
        f"The paper: dropout {best.dropout:g} is best after epoch {LONG} ({best.acc_epoch10:.2f} "
        f"against {rows[0].acc_epoch10:.2f} without); after epoch {SHORT} all lie within "
        f"{max(early) - min(early):.2f} points."
    )


def dropout_epochs_content() -> dict[str, Any]:
    """Return accuracy by epoch for each dropout, ours and the paper's, with sentences."""
    collected = collect(SWEEP)
    runs = by_dropout(collected.records)
    paper = [row for row in read_paper_table("dropout") if isinstance(row, DropoutRow)]
    shown = [row.dropout for row in paper]
    place = {dropout: shown.index(dropout) for dropout in runs}
    return {
        "seeds": max(len(several) for several in runs.values()),
        "panels": [
            {
                "title": "Here: MiniLM, Rotten Tomatoes, 1,024 sentences an epoch",
                "x_label": "epoch",
                "y_label": "accuracy, %",
                "x_scale": "linear",
                "lines": [_line(place[p], p, several) for p, several in runs.items()],
            },
            {
                "title": "The paper's Table 2 (its model, Bias in Bios)",
                "x_label": "epoch",
                "y_label": "accuracy, %",
                "x_scale": "linear",
                "lines": [_paper_line(i, row) for i, row in enumerate(paper)],
            },
        ],
        "sentences": [
            _paper_sentence(paper),
            *(sentence for epoch in (1, SHORT, LONG) for sentence in _at(runs, epoch)),
            best_epochs_sentence(runs),
            f"Of the sweep {SWEEP}, {collected.said}.",
        ],
    }
