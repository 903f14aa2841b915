"""What the sweeps' records say of claims: pooled comparisons, and accuracies epoch by epoch."""

from collections.abc import Callable, Mapping
from operator import itemgetter
from statistics import fmean
from typing import Any

from allora_lab.checks import require_known
from allora_lab.config import RunConfig
from allora_lab.experiments import dropout_epochs, stability
from allora_lab.experiments.collected import DATASET_LABELS, read_recorded
from allora_lab.experiments.comparison import ComparisonResult
from allora_lab.experiments.comparison_config import SETTINGS
from allora_lab.experiments.epochs import accuracy_by_epoch
from allora_lab.experiments.evidence import Evidence, evidence_of
from allora_lab.experiments.findings import compare
from allora_lab.experiments.statistics import ROUNDING
from allora_lab.methods import METHODS
from allora_lab.training.optimizers import OPTIMIZERS

Curves = dict[int, list[float]]  # accuracies in percent, before training and by epoch, of each seed
LARGEST_CLASS = {"emotion": 34.0}  # percent of the test sentences
PERCEPTION = "perception"
DEFAULT = "default"  # in `where`: the setting is not given, so that the method's own holds
METRIC_LABELS = {"bleu": "BLEU", "rouge_l": "ROUGE-L", "meteor": "METEOR"}
OPTIMIZER_LABELS = {key: optimizer.label for key, optimizer in OPTIMIZERS.items()}
STARTED = 2.0  # points that a run which learned anything is above that


def never_started(dataset: str, accuracy: float) -> bool:
    """Return whether a run ended where it began: at the share of its data's largest class."""
    return dataset in LARGEST_CLASS and accuracy < LARGEST_CLASS[dataset] + STARTED


def pooled_evidence(sweep: str, name: str, where: Mapping[str, Any]) -> Evidence | None:
    """Return the pooled difference of a sweep's comparison, in points of its metric, over seeds.

    `where` keeps the groups whose own side has these settings, such as {"eta_squared": 4}, or the
    method's default, {"ranks_moved": "default"}.  None until every planned seed of both sides of
    these is recorded, so that no verdict rests on the runs that happened to end first.  Raises
    ValueError for a sweep, comparison or setting that does not exist, or that leaves no group.
    """
    collected = read_recorded(sweep)
    for key in where:
        require_known(f"setting of a run of {sweep}", key, SETTINGS)
    result = collected.comparison(name).only(
        lambda group: all(_has(group.ours, key, value) for key, value in where.items())
    )
    if not result.groups:
        raise ValueError(f"no group of {name!r} in sweeps/{sweep}.toml has {dict(where)}")
    if any(len(group.seeds) < group.planned for group in result.groups):
        return None
    seeds = sorted(set.intersection(*(set(group.seeds) for group in result.groups)))
    kept = "".join(f", {_setting(key, value)}" for key, value in where.items())
    settings = f", mean of {len(result.groups)} settings" if len(result.groups) > 1 else ""
    metric = METRIC_LABELS.get(result.comparison.metric, result.comparison.metric)
    what = f"{sweep}: {shown(name)}{kept}, points of {metric}{settings}"
    values = [fmean(g.our_accuracy[s] - g.their_accuracy[s] for g in result.groups) for s in seeds]
    values = [0.0 if abs(value) < 100 * ROUNDING else value for value in values]
    return evidence_of(what, values, seeds=tuple(seeds), unstarted=_unstarted(result))


def shown(name: str) -> str:
    """Return a comparison's name in a sweep's file as a page shows it."""
    name = name.replace(" + dropout", " with dropout").replace(" - ", " − ")
    return name.replace("x eta", "× η").replace("eta x", "η ×")


def _has(config: RunConfig, key: str, value: object) -> bool:
    found = getattr(config, key)
    return found is None if value == DEFAULT else found == value


def _setting(key: str, value: object) -> str:
    """Return a setting that a comparison was cut down to, for people."""
    named = {"optimizer": OPTIMIZER_LABELS, "dataset": DATASET_LABELS}
    if key in named:
        return named[key].get(str(value), str(value))
    if key == "ranks_moved":
        return f"n_A = {6 if value == DEFAULT else value}"  # one per module of a block, of six
    if key == "train_size":
        return f"{value:,} sentences"
    return f"{'η²' if key == 'eta_squared' else key} = {value}"


def _unstarted(result: ComparisonResult) -> tuple[int, ...]:
    """Return the seeds of which a run of either side never started, in any of the groups."""
    found = {
        seed
        for group in result.groups
        for side in (group.our_accuracy, group.their_accuracy)
        for seed, accuracy in side.items()
        if never_started(group.ours.dataset, accuracy)
    }
    return tuple(sorted(found))


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


def dropout_at(epoch: int, dropout: float) -> Evidence | None:
    """Return LoRA's accuracy after an epoch with a dropout, minus that with none."""
    what = f"dropout {dropout:g} minus dropout 0 after epoch {epoch}, points of accuracy"
    return _difference(what, _of_dropout(dropout), _of_dropout(0.0), itemgetter(epoch))


def best_epoch(dropout: float) -> Evidence | None:
    """Return how much later a dropout's best epoch is than without; of equals the first counts."""
    what = f"epoch of the best accuracy with dropout {dropout:g}, minus that with none"
    curves = _of_dropout(dropout), _of_dropout(0.0)
    return _difference(what, *curves, lambda a: float(a.index(max(a[1:]), 1)))


def late_epochs(dropout: float, first: int, last: int) -> Evidence | None:
    """Return the accuracy after epoch `last` minus that after epoch `first`."""
    found = _of_dropout(dropout)
    if found is None:
        return None
    what = f"dropout {dropout:g}: accuracy after epoch {last} minus after epoch {first}, points"
    return evidence_of(what, [run[last] - run[first] for run in found.values()])


def stable_at(kind: str, epoch: int) -> Evidence | None:
    """Return the accuracy of one of `stability.NAMES` minus that of LoRA at η × lr, after an epoch."""
    names = stability.NAMES
    what = f"{names[kind]} minus {names[stability.AT_SCALED_LR]} after epoch {epoch}, points of accuracy"
    curves = _of_kind(kind), _of_kind(stability.AT_SCALED_LR)
    return _difference(what, *curves, itemgetter(epoch))


def drift_on(dataset: str, optimizer: str, method: str) -> Evidence | None:
    """Return how a method's row norm over LoRA's at η × lr changes from step 8 to the end.

    Of the runs of `perception` at η² = 4, whose LoRA has no dropout.
    """
    collected = read_recorded(PERCEPTION)
    given = {"dataset": dataset, "optimizer": optimizer}
    ours = collected.where(**given, method=method, eta_squared=4.0)
    lora = collected.where(**given, method="lora", lora_dropout=0.0)
    if len(ours) < 2 or not lora:
        return None
    fast = max(record.config["lr"] for record in lora)
    theirs = {r.config["seed"]: r for r in lora if r.config["lr"] == fast}
    ratios = [compare(run, theirs[run.config["seed"]]) for run in ours]
    label = f"{DATASET_LABELS[dataset]}, {OPTIMIZER_LABELS[optimizer]}"
    name = METHODS[method].label
    what = f"{label}: row norm of {name} over LoRA's at η × lr, at the end over after 8 steps"
    return evidence_of(what, [ratio.late / ratio.early for ratio in ratios])


MEASURES: dict[str, Callable[..., Evidence | None]] = {
    "dropout-at": dropout_at,
    "drift-on": drift_on,
    "best-epoch": best_epoch,
    "late-epochs": late_epochs,
    "stability": stable_at,
}
