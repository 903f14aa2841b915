"""Is the adaptive rate stable?  ALLoRA over ten epochs, beside LoRA at lr and at η × lr.

A run *collapses* where its training loss over the last epoch is above that over the first, or its
accuracy ends more than FALL points below its own best.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from allora_lab.config import RunConfig
from allora_lab.experiments.collected import Recorded, collect, interval_text, verdict
from allora_lab.experiments.epochs import (
    accuracy_by_epoch,
    at_epoch,
    epoch_line,
    training_loss_by_epoch,
)
from allora_lab.experiments.records import RunRecord
from allora_lab.experiments.statistics import Estimate, mean_interval, paired

SWEEP = "stability"
SHORT, LONG = 5, 10
FALL = 5.0  # points
AT_LR, AT_SCALED_LR = "lora-at-lr", "lora-at-eta-lr"
NAMES = {
    AT_LR: "LoRA at lr",
    AT_SCALED_LR: "LoRA at η × lr",
    "allora": "ALLoRA",
    "allora-update": "ALLoRA on the update (ours)",
}
PAIRS = (("allora", AT_SCALED_LR), ("allora", AT_LR), ("allora-update", AT_SCALED_LR))
Runs = Mapping[str, Sequence[RunRecord]]


def kinds(configs: Iterable[RunConfig]) -> dict[str, str]:
    """Return which of NAMES each run is, by its run_id; LoRA's lower rate is lr."""
    planned = list(configs)
    base = min(config.lr for config in planned)

    def kind(config: RunConfig) -> str:
        if config.method != "lora":
            return config.method
        return AT_LR if config.lr == base else AT_SCALED_LR

    return {config.run_id: kind(config) for config in planned}


def by_kind(collected: Recorded) -> dict[str, list[RunRecord]]:
    """Return the records of each of NAMES of which two seeds or more are there."""
    kind = kinds(collected.sweep.configs)
    found: dict[str, list[RunRecord]] = {name: [] for name in NAMES}
    for record in collected.records:
        found[kind[record.run_id]].append(record)
    return {name: runs for name, runs in found.items() if len(runs) > 1}


def collapses(record: RunRecord) -> bool:
    """Return whether a run collapses (see the head of this file)."""
    losses, accuracies = training_loss_by_epoch(record), accuracy_by_epoch(record)
    return losses[-1] > losses[0] or accuracies[-1] < max(accuracies) - FALL


def _differences(runs: Runs) -> list[str]:
    said = []
    for ours, theirs in PAIRS:
        for epoch in (SHORT, LONG):
            sides = [at_epoch(runs.get(side, ()), epoch) for side in (ours, theirs)]
            if len(sides[0].keys() & sides[1].keys()) < 2:
                continue
            result = paired(*sides)
            said.append(
                f"After epoch {epoch}, {NAMES[ours]} is {verdict(result)} {NAMES[theirs]}: "
                f"{interval_text(result)}, {result.n} seeds."
            )
    return said


def _changes(runs: Runs) -> str:
    results = {
        NAMES[name]: paired(at_epoch(found, LONG), at_epoch(found, SHORT))
        for name, found in runs.items()
    }
    words = (f"{name} {interval_text(result)}" for name, result in results.items())
    return f"From epoch {SHORT} to {LONG} accuracy changes: {'; '.join(words)}."


def _spreads(runs: Runs) -> str:
    words = []
    for name, found in runs.items():
        short, long = (np.std(list(at_epoch(found, e).values()), ddof=1) for e in (SHORT, LONG))
        words.append(f"{NAMES[name]} {short:.1f} and {long:.1f}")
    return (
        f"Standard deviations of the accuracy over seeds, after epochs {SHORT} and {LONG}, in "
        f"points: {'; '.join(words)}."
    )


def _collapses(runs: Runs) -> str:
    total = sum(map(len, runs.values()))
    counts = {name: sum(map(collapses, found)) for name, found in runs.items()}
    which = "; ".join(f"{NAMES[name]} {count}" for name, count in counts.items() if count)
    losses = (
        f"{NAMES[name]} {Estimate(*mean_interval([training_loss_by_epoch(r)[-1] for r in found]))}"
        for name, found in runs.items()
    )
    return (
        f"Runs that collapse: {sum(counts.values())} of {total}{f' ({which})' if which else ''}, "
        f"that is, whose training loss ends above its first epoch's, or whose accuracy more than "
        f"{FALL:g} points below its best. The training loss in epoch {LONG}, nats: {'; '.join(losses)}."
    )


def _panel(
    title: str, unit: str, runs: Runs, of_run: Callable[[RunRecord], list[float]]
) -> dict[str, Any]:
    lines = []
    for name, found in runs.items():
        method = "lora" if name in (AT_LR, AT_SCALED_LR) else name
        line = epoch_line(NAMES[name], method, [of_run(record) for record in found])
        lines.append({**line, "dashed": name == AT_SCALED_LR})
    return {
        "title": title,
        "x_label": "epoch",
        "y_label": unit,
        "x_scale": "linear",
        "lines": lines,
    }


def stability_content() -> dict[str, Any]:
    """Return accuracy and training loss by epoch, with sentences on differences and collapses.

    Raises
    ------
    FileNotFoundError
        If of no kind of run two seeds are recorded.
    """
    collected = collect(SWEEP)
    runs = by_kind(collected)
    if not runs:
        raise FileNotFoundError(
            f"no two seeds of {SWEEP} are recorded: allora-lab sweep sweeps/{SWEEP}.toml makes the "
            "records"
        )
    return {
        "seeds": max(map(len, runs.values())),
        "panels": [
            _panel(
                "Accuracy after each epoch",
                "accuracy, %",
                runs,
                lambda record: accuracy_by_epoch(record)[1:],
            ),
            _panel("Training loss in each epoch", "loss, nats", runs, training_loss_by_epoch),
        ],
        "sentences": [
            *_differences(runs),
            _changes(runs),
            _spreads(runs),
            _collapses(runs),
            f"Of the sweep {SWEEP}, {collected.said}.",
        ],
    }
