"""What the recorded runs say of claims: escapes from zero, the spread of gradients, the ripple."""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import fmean

from allora_lab.checks import require_known
from allora_lab.config import scaled_rate
from allora_lab.data.images import IMAGE_SETS
from allora_lab.experiments.clipping import drift_without_clipping
from allora_lab.experiments.demo import ETA_SQUARED, FOLDER, demo_configs
from allora_lab.experiments.evidence import Evidence, evidence_of
from allora_lab.experiments.findings import compare, find, norm_at
from allora_lab.experiments.records import RunRecord, read_record, record_path
from allora_lab.experiments.ripple import layer_bound
from allora_lab.experiments.ripple_records import SCALINGS, recorded_ripples
from allora_lab.experiments.tables import SEEDS
from allora_lab.experiments.variance_config import main_configs
from allora_lab.experiments.variance_records import read_variance_record, variance_record_path
from allora_lab.files import results_folder
from allora_lab.methods import METHODS
from allora_lab.training.optimizers import OPTIMIZERS


@cache
def _demo_runs(_folder: Path) -> list[list[RunRecord]]:
    """Return the demo's seven runs of each of SEEDS that has all of them, read once a folder."""
    by_seed = [[record_path(FOLDER, c) for c in demo_configs(seed)] for seed in SEEDS]
    return [[read_record(p) for p in paths] for paths in by_seed if all(p.exists() for p in paths)]


def _escape(what: str, of_seed: Callable[[list[RunRecord]], float]) -> Evidence | None:
    """Return a number of the demo's seven runs over SEEDS; None while a run is not recorded."""
    runs = _demo_runs(results_folder())
    if len(runs) != len(SEEDS):
        return None
    return evidence_of(what, [of_seed(records) for records in runs])


AGAINST = {"lr": "LoRA's at lr", "eta lr": "LoRA's at η × lr"}
PARTS = {
    "early": "after 8 steps",
    "late": "at the end",
    "drift": "at the end over after 8 steps",
}


def _pair(
    records: list[RunRecord], optimizer: str, method: str, against: str
) -> tuple[RunRecord, RunRecord]:
    """Return a method's run at the optimizer's lr, and LoRA's at lr or at η × lr."""
    require_known("rate of LoRA", against, AGAINST)
    lr = OPTIMIZERS[optimizer].default_lr
    rate = lr if against == "lr" else scaled_rate(lr, ETA_SQUARED)
    ours = find(records, method=method, optimizer=optimizer, lr=lr)
    return ours, find(records, method="lora", optimizer=optimizer, lr=rate)


def row_norms(optimizer: str, method: str, part: str, against: str) -> Evidence | None:
    """Return a method's mean row norm over LoRA's at lr or at η × lr, at one of PARTS."""
    require_known("part of a run", part, PARTS)

    def of_seed(records: list[RunRecord]) -> float:
        ratio = compare(*_pair(records, optimizer, method, against))
        return ratio.late / ratio.early if part == "drift" else getattr(ratio, part)

    name = f"{OPTIMIZERS[optimizer].label}: row norm of {METHODS[method].label}"
    return _escape(f"{name} over {AGAINST[against]}, {PARTS[part]}", of_seed)


def still_growing(optimizer: str, first: int) -> Evidence | None:
    """Return ALLoRA's mean row norm at the end over that after `first` steps."""
    lr, label = OPTIMIZERS[optimizer].default_lr, OPTIMIZERS[optimizer].label

    def of_seed(records: list[RunRecord]) -> float:
        run = find(records, method="allora", optimizer=optimizer, lr=lr)
        return norm_at(run, run.trace["step"][-1]) / norm_at(run, first)

    return _escape(f"{label}: ALLoRA's row norm at the end over after {first} steps", of_seed)


def training_loss(optimizer: str, against: str) -> Evidence | None:
    """Return ALLoRA's training loss, averaged over all steps, minus LoRA's at lr or at η × lr."""

    def of_seed(records: list[RunRecord]) -> float:
        ours, theirs = _pair(records, optimizer, "allora", against)
        return fmean(ours.trace["loss"]) - fmean(theirs.trace["loss"])

    what = f"ALLoRA's training loss averaged over all steps, minus {AGAINST[against]}, nats"
    return _escape(f"{OPTIMIZERS[optimizer].label}: {what}", of_seed)


def gradient_spread(dataset: str, over: str, since: int) -> Evidence | None:
    """Return the average or the largest spread of the gradient at the last epoch over epoch `since`."""
    columns = {"average": "mean", "largest": "max"}
    require_known("spread of gradients", over, columns)
    paths = [variance_record_path(c) for c in main_configs() if c.dataset == dataset]
    if not all(path.exists() for path in paths):
        return None
    records = [read_variance_record(path) for path in paths]
    batch, last = records[0].config["batches"][0], records[0].config["epochs"]
    found = [record.column(columns[over], batch) for record in records]
    label = IMAGE_SETS[dataset].label
    what = f"{label}: {over} standard deviation at epoch {last} over epoch {since}"
    return evidence_of(what, [column[last] / column[since] for column in found], kind="ratio")


def ripple_exponent(scaling: float) -> Evidence | None:
    """Return the log of the growth of MiniLM's activations over the log of its bound."""
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


def ripple_accuracy(scaling: float) -> Evidence | None:
    """Return MiniLM's accuracy with every adapter scaled, minus that at s = 1."""
    records = recorded_ripples()
    if len(records) < 2:
        return None
    at, trained = SCALINGS.index(scaling), SCALINGS.index(1.0)
    points = [100 * (r.scaled[at]["accuracy"] - r.scaled[trained]["accuracy"]) for r in records]
    return evidence_of(f"MiniLM: accuracy at s = {scaling:g} minus that at s = 1, points", points)


MEASURES: dict[str, Callable[..., Evidence | None]] = {
    "row-norms": row_norms,
    "row-norms-unclipped": drift_without_clipping,
    "still-growing": still_growing,
    "training-loss": training_loss,
    "gradient-spread": gradient_spread,
    "ripple-exponent": ripple_exponent,
    "ripple-accuracy": ripple_accuracy,
}
