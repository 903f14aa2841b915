"""Runs that are scored after every epoch: what the experiments of ten epochs share."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from allora_lab.experiments.records import RunRecord
from allora_lab.experiments.statistics import mean_interval


def accuracy_by_epoch(record: RunRecord) -> list[float]:
    """Return the accuracies in percent, before training and after every epoch."""
    return [100 * value for value in record.trace["evaluations"]["accuracy"]]


def training_loss_by_epoch(record: RunRecord) -> list[float]:
    """Return the training loss in nats, averaged over each epoch's steps."""
    losses, steps = record.trace["loss"], record.config["eval_every"]
    return [float(np.mean(losses[i : i + steps])) for i in range(0, len(losses), steps)]


def epoch_of_best(record: RunRecord) -> int:
    """Return the first epoch, from 1, with a run's highest accuracy."""
    return int(np.argmax(accuracy_by_epoch(record)[1:])) + 1


def at_epoch(records: Sequence[RunRecord], epoch: int) -> dict[int, float]:
    """Return the accuracy after an epoch, in percent, by seed."""
    return {r.config["seed"]: accuracy_by_epoch(r)[epoch] for r in records}


def epoch_line(label: str, colour: str | int, curves: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return a line of a figure: means and intervals over runs, epochs 1 onwards; none is marked."""
    mean, half = zip(*(mean_interval(values) for values in zip(*curves, strict=True)), strict=True)
    epochs = list(range(1, len(mean) + 1))
    words = {"label": label, "colour": colour, "x": epochs, "marks": []}
    return {**words, "mean": list(mean), "half": list(half)}
