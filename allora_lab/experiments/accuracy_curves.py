"""Accuracy against one setting, a line a method: ranks, and how much data there is."""

from collections.abc import Callable, Sequence
from typing import Any

from allora_lab.config import RunConfig, config_from
from allora_lab.experiments.collected import (
    accuracies,
    collect,
    counted,
    interval_text,
    mean_and_half,
    verdict,
)
from allora_lab.experiments.comparison import ComparisonResult
from allora_lab.experiments.pairing import by_setting
from allora_lab.experiments.paper_numbers import RankRow, read_paper_table
from allora_lab.experiments.records import RunRecord
from allora_lab.methods import METHODS
from allora_lab.training.optimizers import OPTIMIZERS

ALL_SENTENCES = {"rotten_tomatoes": 8530}  # of the training split, where a sweep takes all


def lines(
    records: Sequence[RunRecord],
    place: Callable[[RunConfig], float],
    label: Callable[[RunConfig], str],
) -> list[dict[str, Any]]:
    """Return one line a label: means over seeds, in percent, against what `place` gives.

    Of several lines of one method the first is solid and the others are dashed.
    """
    found: dict[str, dict[float, list[RunRecord]]] = {}
    colours: dict[str, str] = {}
    for record in records:
        config = config_from(record.config)
        name = label(config)
        colours.setdefault(name, config.method)
        found.setdefault(name, {}).setdefault(place(config), []).append(record)
    made: list[dict[str, Any]] = []
    for name, points in found.items():
        places = sorted(points)
        mean, half = zip(*(mean_and_half(accuracies(points[v])) for v in places), strict=True)
        made.append(
            {
                "label": name,
                "colour": colours[name],
                "x": places,
                "mean": list(mean),
                "half": [value or 0.0 for value in half],
                "marks": [],
                "dashed": any(line["colour"] == colours[name] for line in made),
            }
        )
    return made


def _settings(result: ComparisonResult) -> str:
    n = len(result.finished)
    return "" if n == 1 else f"{counted(n, 'setting')} and "


def _ahead(result: ComparisonResult) -> str:
    """Say in how many settings ours is ahead, where there are several."""
    if len(result.finished) == 1:
        return ""
    wins, ties, losses = result.counts
    return f"; ahead in {wins}, equal in {ties}, behind in {losses}"


def comparison_sentences(name: str) -> list[str]:
    """Say each comparison of a sweep: the mean over its settings and, of several, in how many ours is ahead."""
    collected, said = collect(name), []
    for comparison in collected.sweep.comparisons:
        result = collected.comparison(comparison.name)
        pooled = result.pooled
        if pooled is None:
            continue
        said.append(
            f"{comparison.name}: {interval_text(pooled)} over {_settings(result)}{pooled.n} seeds"
            f"{_ahead(result)}: the first is {verdict(pooled)} the second."
        )
    return [*said, f"Of the sweep {name}, {collected.said}."]


def _paper_rank_lines() -> list[dict[str, Any]]:
    rows = [row for row in read_paper_table("rank") if isinstance(row, RankRow)]
    keys = {"LoRA": "lora", "DoRA": "dora", "ALLoRA": "allora"}
    return [
        {
            "label": METHODS[key].label,
            "colour": key,
            "x": [row.rank for row in rows if row.method == method],
            "mean": [row.accuracy for row in rows if row.method == method],
            "half": None,
            "marks": [],
        }
        for method, key in keys.items()
    ]


def _seeds(records: Sequence[RunRecord]) -> str:
    """Return over how many seeds the means are, in words where it differs."""
    settings = by_setting(config_from(record.config) for record in records)
    fewest, most = (f(map(len, settings.values())) for f in (min, max))
    return f"{most}" if fewest == most else f"{fewest} to {most}"


def ranks_content() -> dict[str, Any]:
    """Return accuracy by rank for LoRA, DoRA and ALLoRA, ours and the paper's, with sentences."""
    records = collect("ranks").records
    axis = {"x_label": "rank r", "y_label": "accuracy, %", "x_scale": "log2"}
    return {
        "seeds": _seeds(records),
        "panels": [
            {
                "title": "Here: MiniLM, Emotion, 1,024 sentences",
                **axis,
                "lines": lines(
                    records, lambda config: config.r, lambda config: METHODS[config.method].label
                ),
            },
            {"title": "The paper: Qwen2-0.5B, Emotion", **axis, "lines": _paper_rank_lines()},
        ],
        "sentences": comparison_sentences("ranks"),
    }


def sentences_in(config: RunConfig) -> int:
    """Return how many training sentences a run has."""
    return config.train_size or ALL_SENTENCES[config.dataset]


def _by_size() -> list[str]:
    """Say each comparison of the sweep at each size by itself."""
    collected, said = collect("data-size"), []
    for comparison in collected.sweep.comparisons:
        groups = collected.comparison(comparison.name).finished
        words = (
            f"{sentences_in(group.ours):,}: {interval_text(group.result)}, {group.result.n} seeds"
            for group in sorted(groups, key=lambda group: sentences_in(group.ours))
        )
        said += (
            [f"{comparison.name}, by number of sentences: {'; '.join(words)}."] if groups else []
        )
    return said


def data_size_content() -> dict[str, Any]:
    """Return accuracy after one epoch by how many sentences there are, with sentences."""
    runs = collect("data-size").records
    records = sorted(runs, key=lambda r: (r.config["method"] != "lora", r.config["lr"]))
    optimizers = list(dict.fromkeys(record.config["optimizer"] for record in records))

    def label(config: RunConfig) -> str:
        name = METHODS[config.method].label
        return f"{name}, lr {config.lr:g}" if config.method == "lora" else name

    return {
        "seeds": _seeds(records),
        "panels": [
            {
                "title": f"One epoch, {OPTIMIZERS[optimizer].label}",
                "x_label": "training sentences",
                "y_label": "accuracy, %",
                "x_scale": "log2",
                "lines": lines(
                    [r for r in records if r.config["optimizer"] == optimizer], sentences_in, label
                ),
            }
            for optimizer in optimizers
        ],
        "sentences": [*_by_size(), *comparison_sentences("data-size")],
    }
