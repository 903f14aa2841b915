"""What the runs recorded so far say of claims: escapes from zero, gradients' noise, the ripple."""

import math
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import fmean

from allora_lab.config import scaled_rate
from allora_lab.data.images import IMAGE_SETS
from allora_lab.experiments.claim_rules import Evidence, evidence_of
from allora_lab.experiments.clipping import drift_without_clipping
from allora_lab.experiments.demo import ETA_SQUARED, FOLDER, demo_configs
from allora_lab.experiments.findings import compare, find, norm_at
from allora_lab.experiments.records import RunRecord, read_record, record_path
from allora_lab.experiments.ripple import layer_bound
from allora_lab.experiments.ripple_records import SCALINGS, recorded_ripples
from allora_lab.experiments.tables import SEEDS
from allora_lab.experiments.variance_config import main_configs
from allora_lab.experiments.variance_findings import change_between
from allora_lab.experiments.variance_records import read_variance_record, variance_record_path
from allora_lab.files import results_folder
from allora_lab.training.optimizers import OPTIMIZERS


@cache
def _demo_runs(_folder: Path) -> list[list[RunRecord]]:
    """Return the demo's seven runs of each of SEEDS that has all of them, read once a folder."""
    by_seed = [[record_path(FOLDER, c) for c in demo_configs(seed)] for seed in SEEDS]
    return [[read_record(p) for p in paths] for paths in by_seed if all(p.exists() for p in paths)]


def _escape(what: str, of_seed: Callable[[list[RunRecord]], float]) -> Evidence | None:
    """Return a number of the demo's seven runs over SEEDS; None while a run is not recorded."""
    runs = _demo_runs(results_folder())
    return evidence_of(what, [of_seed(r) for r in runs]) if len(runs) == len(SEEDS) else None


def _norms(optimizer: str, method: str, part: str, *, is_fast: bool) -> Evidence | None:
    """Return how long a method's rows are over LoRA's, at lr or at η × lr.

    `part` is "early" (after 8 steps), "late" (at the end), or "drift" (late over early).
    """
    lr = OPTIMIZERS[optimizer].default_lr
    rate = scaled_rate(lr, ETA_SQUARED) if is_fast else lr
    when = {
        "early": "after 8 steps",
        "late": "at the end",
        "drift": "at the end over after 8 steps",
    }
    name = {"allora": "ALLoRA", "allora-update": "allora-update (ours)"}[method]
    other = "η × lr" if is_fast else "lr"

    def of_seed(records: list[RunRecord]) -> float:
        ours = find(records, method=method, optimizer=optimizer, lr=lr)
        ratio = compare(ours, find(records, method="lora", optimizer=optimizer, lr=rate))
        return ratio.late / ratio.early if part == "drift" else getattr(ratio, part)

    label = OPTIMIZERS[optimizer].label
    return _escape(f"{label}: {name}'s row norm over LoRA's at {other}, {when[part]}", of_seed)


def _still_growing(optimizer: str, first: int) -> Evidence | None:
    lr, label = OPTIMIZERS[optimizer].default_lr, OPTIMIZERS[optimizer].label

    def of_seed(records: list[RunRecord]) -> float:
        run = find(records, method="allora", optimizer=optimizer, lr=lr)
        return norm_at(run, run.trace["step"][-1]) / norm_at(run, first)

    return _escape(f"{label}: ALLoRA's row norm at the end over after {first} steps", of_seed)


def _loss(optimizer: str, *, is_fast: bool) -> Evidence | None:
    """Return ALLoRA's training loss, all steps averaged, less LoRA's at lr or at η × lr."""
    lr, label = OPTIMIZERS[optimizer].default_lr, OPTIMIZERS[optimizer].label
    rate = scaled_rate(lr, ETA_SQUARED) if is_fast else lr

    def of_seed(records: list[RunRecord]) -> float:
        ours = find(records, method="allora", optimizer=optimizer, lr=lr)
        theirs = find(records, method="lora", optimizer=optimizer, lr=rate)
        return fmean(ours.trace["loss"]) - fmean(theirs.trace["loss"])

    other = "η × lr" if is_fast else "lr"
    what = f"ALLoRA's training loss averaged over all steps, less LoRA's at {other}, nats"
    return _escape(f"{label}: {what}", of_seed)


def _variance(dataset: str, column: str, first: int) -> Evidence | None:
    paths = [variance_record_path(c) for c in main_configs() if c.dataset == dataset]
    if not all(path.exists() for path in paths):
        return None
    records = [read_variance_record(path) for path in paths]
    batch, last = records[0].config["batches"][0], records[0].config["epochs"]
    change = change_between(records, column, batch, first, last)
    name = {"mean": "average", "max": "largest"}[column]
    what = (
        f"{IMAGE_SETS[dataset].label}: {name} standard deviation at epoch {last} over epoch {first}"
    )
    return Evidence(what, len(records), change.factor, change.low, change.high)


def _ripple_exponent(scaling: float) -> Evidence | None:
    records, index = recorded_ripples(), SCALINGS.index(scaling)
    if len(records) < 2:
        return None
    shares = [
        math.log(r.scaled[index]["growth"]["mean"][-1]) / math.log(layer_bound(r, scaling)[-1])
        for r in records
    ]
    return evidence_of(
        f"MiniLM at s = {scaling:g}: log of the growth over log of its bound", shares
    )


def _ripple_accuracy(scaling: float) -> Evidence | None:
    records = recorded_ripples()
    if len(records) < 2:
        return None
    at, trained = SCALINGS.index(scaling), SCALINGS.index(1.0)
    points = [100 * (r.scaled[at]["accuracy"] - r.scaled[trained]["accuracy"]) for r in records]
    return evidence_of(f"MiniLM: accuracy at s = {scaling:g} less that at s = 1, points", points)


EVIDENCE: dict[str, Callable[[], Evidence | None]] = {
    **{
        f"{run}-{part}-{rate}": partial(_norms, *run.split("-", 1), part, is_fast=is_fast)
        for run in ("sgd-allora", "adamw-allora", "adamw-allora-update")
        for part in ("early", "late", "drift")
        for rate, is_fast in (("lora-at-lr", False), ("lora-at-eta-lr", True))
    },
    "sgd-unclipped-allora-drift-lora-at-eta-lr": drift_without_clipping,
    **{
        f"{optimizer}-allora-loss-{rate}": partial(_loss, optimizer, is_fast=is_fast)
        for optimizer in ("sgd", "adamw")
        for rate, is_fast in (("lora-at-lr", False), ("lora-at-eta-lr", True))
    },
    "sgd-allora-still-growing": partial(_still_growing, "sgd", 96),
    "adamw-allora-still-growing": partial(_still_growing, "adamw", 80),
    **{
        f"{dataset}-{column}-from-{first}": partial(_variance, dataset, column, first)
        for dataset in ("mnist", "cifar10")
        for column in ("mean", "max")
        for first in (0, 1)
    },
    "ripple-exponent-16": partial(_ripple_exponent, 16.0),
    "ripple-accuracy-4": partial(_ripple_accuracy, 4.0),
    "ripple-accuracy-16": partial(_ripple_accuracy, 16.0),
}
