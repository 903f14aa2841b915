"""What the sweeps' records say of claims: a comparison pooled, and ten epochs, of dropout and of ALLoRA."""

from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter
from typing import Any

from allora_lab.checks import require_known
from allora_lab.config import RunConfig
from allora_lab.experiments import dropout_epochs, stability
from allora_lab.experiments.claim_rules import Evidence, evidence_of
from allora_lab.experiments.collected import read_recorded
from allora_lab.experiments.comparison_config import SETTINGS
from allora_lab.experiments.epochs import accuracy_by_epoch

Curves = dict[int, list[float]]  # accuracies in percent, before training and by epoch, of each seed
DROPOUTS = (0.05, 0.1, 0.2, 0.4)  # each against none


def pooled_evidence(sweep: str, name: str, where: Mapping[str, Any]) -> Evidence | None:
    """Return the pooled difference of a sweep's comparison, in points of its metric, over seeds.

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
    what = f"{sweep}: {name}{kept}, points of {result.comparison.metric}{settings}"
    return Evidence(what, found.n, found.mean_difference, found.low, found.high)


def _by_epoch(sweep: str, is_wanted: Callable[[RunConfig], bool]) -> Curves | None:
    """Return, by seed, the accuracy in percent after each epoch; None while a seed is missing."""
    collected = read_recorded(sweep)
    planned = {config.run_id for config in collected.sweep.configs if is_wanted(config)}
    records = [record for record in collected.records if record.run_id in planned]
    if not planned or len(records) < len(planned):
        return None
    return {record.config["seed"]: accuracy_by_epoch(record) for record in records}


def _of_dropout(dropout: float) -> Curves | None:
    return _by_epoch(dropout_epochs.SWEEP, lambda config: config.lora_dropout == dropout)


def _of_kind(kind: str) -> Curves | None:
    found = stability.kinds(read_recorded(stability.SWEEP).sweep.configs)
    return _by_epoch(stability.SWEEP, lambda config: found[config.run_id] == kind)


def _difference(
    what: str, ours: Curves | None, theirs: Curves | None, of_run: Callable[[list[float]], float]
) -> Evidence | None:
    if ours is None or theirs is None:
        return None
    return evidence_of(what, [of_run(ours[seed]) - of_run(theirs[seed]) for seed in ours])


def _after(epoch: int, high: float) -> Evidence | None:
    what = f"dropout {high:g} less dropout 0 after epoch {epoch}, points of accuracy"
    return _difference(what, _of_dropout(high), _of_dropout(0.0), itemgetter(epoch))


def _best_epoch(high: float) -> Evidence | None:
    """Return how much later the best epoch comes; of equals the first, epoch 0 left out."""
    what = f"epoch of the best accuracy with dropout {high:g}, less that with none"
    curves = _of_dropout(high), _of_dropout(0.0)
    return _difference(what, *curves, lambda a: float(a.index(max(a[1:]), 1)))


def _late(dropout: float, first: int, last: int) -> Evidence | None:
    found = _of_dropout(dropout)
    if found is None:
        return None
    what = f"dropout {dropout:g}: accuracy after epoch {last} less after epoch {first}, points"
    return evidence_of(what, [run[last] - run[first] for run in found.values()])


def _stable(kind: str, epoch: int) -> Evidence | None:
    names = stability.NAMES
    what = f"{names[kind]} less {names[stability.AT_SCALED_LR]} after epoch {epoch}, points of accuracy"
    curves = _of_kind(kind), _of_kind(stability.AT_SCALED_LR)
    return _difference(what, *curves, itemgetter(epoch))


DROPOUT_EVIDENCE: dict[str, Callable[[], Evidence | None]] = {
    **{
        f"dropout-{high:g}-epoch-{epoch}": partial(_after, epoch, high)
        for high in DROPOUTS
        for epoch in (1, 3, 10)
    },
    **{f"dropout-{high:g}-best-epoch": partial(_best_epoch, high) for high in DROPOUTS},
    "dropout-0-from-3-to-10": partial(_late, 0.0, 3, 10),
    "dropout-0-from-6-to-10": partial(_late, 0.0, 6, 10),
    "dropout-0.4-from-3-to-10": partial(_late, 0.4, 3, 10),
}
STABILITY_EVIDENCE: dict[str, Callable[[], Evidence | None]] = {
    f"stability-{kind}-epoch-{epoch}": partial(_stable, kind, epoch)
    for kind in ("allora", "allora-update")
    for epoch in (stability.SHORT, stability.LONG)
}
