"""What the sweeps' records say of claims: a comparison pooled, and dropout over ten epochs."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from allora_lab.checks import require_known
from allora_lab.experiments import dropout_epochs
from allora_lab.experiments.claim_rules import Evidence, evidence_of
from allora_lab.experiments.collected import read_recorded
from allora_lab.experiments.comparison_config import SETTINGS


def pooled_evidence(sweep: str, name: str, where: Mapping[str, Any]) -> Evidence | None:
    """Return the pooled difference of a sweep's comparison, in points of accuracy, over seeds.

    `where` keeps the groups whose own side has these settings, such as {"eta_squared": 4}.  None
    until every planned seed of both sides of these is recorded, so that no verdict rests on the
    runs that happened to end first.  Raises ValueError for a sweep, comparison or setting that does
    not exist, or that leaves no group.
    """
    collected = read_recorded(sweep)
    for key in where:
        require_known(f"setting of a run of {sweep}", key, SETTINGS)
    result = collected.comparison(name).only(
        lambda group: all(getattr(group.ours, k) == v for k, v in where.items())
    )
    if not result.groups:
        raise ValueError(f"no group of {name!r} in sweeps/{sweep}.toml has {dict(where)}")
    found = result.pooled
    if found is None or any(len(group.seeds) < group.planned for group in result.groups):
        return None
    kept = "".join(f", {key} {value}" for key, value in where.items())
    settings = f", mean of {len(result.groups)} settings" if len(result.groups) > 1 else ""
    what = f"{sweep}: {name}{kept}, points of accuracy{settings}"
    return Evidence(what, found.n, found.mean_difference, found.low, found.high)


def _by_epoch(dropout: float) -> dict[int, list[float]] | None:
    """Return, by seed, the accuracy in percent after each epoch; None while a seed is missing."""
    collected = read_recorded(dropout_epochs.SWEEP)
    planned = sum(config.lora_dropout == dropout for config in collected.sweep.configs)
    records = collected.where(lora_dropout=dropout)
    if not planned or len(records) < planned:
        return None
    return {r.config["seed"]: dropout_epochs.accuracy_by_epoch(r) for r in records}


def _difference(
    what: str, high: float, low: float, of_run: Callable[[list[float]], float]
) -> Evidence | None:
    ours, theirs = _by_epoch(high), _by_epoch(low)
    if ours is None or theirs is None:
        return None
    return evidence_of(what, [of_run(ours[seed]) - of_run(theirs[seed]) for seed in ours])


def _after(epoch: int, high: float) -> Evidence | None:
    what = f"dropout {high:g} less dropout 0 after epoch {epoch}, points of accuracy"
    return _difference(what, high, 0.0, lambda accuracies: accuracies[epoch])


def _best_epoch(high: float) -> Evidence | None:
    """Return how much later the best epoch comes; of equals the first, epoch 0 left out."""
    what = f"epoch of the best accuracy with dropout {high:g}, less that with none"
    return _difference(what, high, 0.0, lambda a: float(a.index(max(a[1:]), 1)))


def _late(dropout: float, first: int, last: int) -> Evidence | None:
    found = _by_epoch(dropout)
    if found is None:
        return None
    what = f"dropout {dropout:g}: accuracy after epoch {last} less after epoch {first}, points"
    return evidence_of(what, [run[last] - run[first] for run in found.values()])


DROPOUT_EVIDENCE: dict[str, Callable[[], Evidence | None]] = {
    **{
        f"dropout-{high:g}-epoch-{epoch}": partial(_after, epoch, high)
        for high in (0.1, 0.4)
        for epoch in (1, 3, 10)
    },
    **{f"dropout-{high:g}-best-epoch": partial(_best_epoch, high) for high in (0.1, 0.4)},
    "dropout-0-from-3-to-10": partial(_late, 0.0, 3, 10),
    "dropout-0-from-6-to-10": partial(_late, 0.0, 6, 10),
    "dropout-0.4-from-3-to-10": partial(_late, 0.4, 3, 10),
}
