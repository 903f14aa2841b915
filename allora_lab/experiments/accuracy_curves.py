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
from allora_lab.experiments.comparison_config import by_setting
from allora_lab.experiments.paper_numbers import RankRow, read_paper_table
from allora_lab.experiments.records import RunRecord
from allora_lab.methods import METHODS
from allora_lab.training.optimizers import OPTIMIZERS


def lines(
    records: Sequence[RunRecord], x: str, label: Callable[[RunConfig], str]
) -> list[dict[str, Any]]:
    """Return one line a label: means over seeds, in percent, against the setting named `x`."""
    found: dict[str, dict[float, list[RunRecord]]] = {}
    colours: dict[str, str] = {}
    for record in records:
        config = config_from(record.config)
        name = label(config)
        colours.setdefault(name, config.method)
        found.setdefault(name, {}).setdefault(getattr(config, x), []).append(record)
    made = []
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
            }
        )
    return made


def comparison_sentences(name: str) -> list[str]:
    """Say each comparison of a sweep: the mean over its settings, and in how many ours is ahead."""
    collected, said = collect(name), []
    for comparison in collected.sweep.comparisons:
        result = collected.comparison(comparison.name)
        pooled = result.pooled
        if pooled is None:
            continue
        wins, ties, losses = result.counts
        said.append(
            f"{comparison.name}: {interval_text(pooled)} over "
            f"{counted(len(result.finished), 'setting')} and {pooled.n} seeds; ahead in {wins}, equal in {ties}, behind in {losses}: "
            f"the first is {verdict(pooled)} the second."
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
                "lines": lines(records, "r", lambda config: METHODS[config.method].label),
            },
            {"title": "The paper: Qwen2-0.5B, Emotion", **axis, "lines": _paper_rank_lines()},
        ],
        "sentences": comparison_sentences("ranks"),
    }


def data_size_content() -> dict[str, Any]:
    """Return accuracy after one epoch by how many sentences there are, with sentences."""
    records = collect("data-size").records
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
                    [r for r in records if r.config["optimizer"] == optimizer], "train_size", label
                ),
            }
            for optimizer in optimizers
        ],
        "sentences": comparison_sentences("data-size"),
    }
