"""What a sweep's comparisons show: paired differences, their pooled mean, and rows of a table."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from allora_lab.config import RunConfig
from allora_lab.experiments.comparison_config import SETTINGS, Comparison
from allora_lab.experiments.pairing import by_setting, paired_settings
from allora_lab.experiments.records import RunRecord
from allora_lab.experiments.statistics import Estimate, PairedResult, adjusted, paired, pooled

Value = str | int | float | Estimate | None
Row = dict[str, Value]
ABSENT = "–"
REVISIONS = {"model": "model_revision", "dataset": "dataset_revision"}


@dataclass(frozen=True)
class Group:
    """One setting of ours against one of theirs, over seeds.

    Attributes
    ----------
    ours, theirs
        The two settings; their seed is 0 and means nothing.
    planned
        How many seeds the sweep has on both sides.
    our_accuracy, their_accuracy
        Of the runs recorded so far, in percent, by seed.
    """

    ours: RunConfig
    theirs: RunConfig
    planned: int
    our_accuracy: dict[int, float]
    their_accuracy: dict[int, float]

    @property
    def seeds(self) -> list[int]:
        """Return the seeds that both sides have recorded."""
        return sorted(self.our_accuracy.keys() & self.their_accuracy.keys())

    @cached_property
    def result(self) -> PairedResult | None:
        """Return the paired difference in percentage points, or None with fewer than two seeds."""
        if len(self.seeds) < 2:
            return None
        return paired(self.our_accuracy, self.their_accuracy)


@dataclass(frozen=True)
class ComparisonResult:
    """A comparison's groups, and what they show together."""

    comparison: Comparison
    groups: tuple[Group, ...]

    @property
    def finished(self) -> list[Group]:
        """Return the groups that two seeds or more are recorded of."""
        return [group for group in self.groups if group.result is not None]

    def only(self, keep: Callable[[Group], bool]) -> "ComparisonResult":
        """Return the comparison with a part of its groups."""
        return ComparisonResult(self.comparison, tuple(g for g in self.groups if keep(g)))

    @cached_property
    def pooled(self) -> PairedResult | None:
        """Return the mean over the finished groups, by the seeds all of them have; None if < 2."""
        finished = self.finished
        if not finished or len(set.intersection(*(set(group.seeds) for group in finished))) < 2:
            return None
        return pooled([(group.our_accuracy, group.their_accuracy) for group in finished])

    @property
    def counts(self) -> tuple[int, int, int]:
        """Return wins, ties and losses: finished groups by the sign of their mean difference."""
        means = [group.result.mean_difference for group in self.finished if group.result]
        return sum(m > 0 for m in means), sum(m == 0 for m in means), sum(m < 0 for m in means)


def require_one_machine(what: str, records: Sequence[RunRecord], named: Iterable[str] = ()) -> None:
    """Raise ValueError unless records come from one kind of device, one model and one data set.

    All CPUs are one kind, a GPU's kind is its name.  Revisions of a setting in `named` may differ.
    """

    def require_one(noun: str, key: Callable[[RunRecord], str]) -> None:
        values = sorted({key(record) for record in records})
        if len(values) > 1:
            raise ValueError(
                f"{what}: its records differ in {noun} ({' and '.join(values)}), so that they "
                "cannot stand in one row: delete those of one and run them again"
            )

    require_one("device", lambda r: "cpu" if r.device.startswith("cpu:") else r.device)
    for setting, revision in REVISIONS.items():
        if setting not in set(named):
            require_one(revision.replace("_", " "), lambda r, name=revision: getattr(r, name))


def compare(
    comparison: Comparison, configs: Sequence[RunConfig], records: Iterable[RunRecord]
) -> ComparisonResult:
    """Return what a comparison shows over a sweep's planned runs and the records there are of them.

    Raises
    ------
    ValueError
        As `paired_settings`, or if a group's records are of different devices or revisions.
    """
    runs, recorded = by_setting(configs), {record.run_id: record for record in records}

    def side(setting: RunConfig) -> dict[int, RunRecord]:
        found = {seed: recorded.get(run.run_id) for seed, run in runs[setting].items()}
        return {seed: record for seed, record in found.items() if record is not None}

    groups = []
    for pair in paired_settings(comparison, configs):
        sides = [side(setting) for setting in pair]
        both = [record for found in sides for record in found.values()]
        require_one_machine(f"comparison {comparison.name!r}", both, comparison.named)
        accuracies = [
            {seed: points(record, comparison.metric) for seed, record in found.items()}
            for found in sides
        ]
        planned = len(runs[pair[0]].keys() & runs[pair[1]].keys())
        groups.append(Group(*pair, planned, *accuracies))
    return ComparisonResult(comparison, tuple(groups))


def points(record: RunRecord, metric: str) -> float:
    """Return a metric of a record times 100; ValueError when the run was not scored by it."""
    if f"eval_{metric}" not in record.metrics:
        measured = [name.removeprefix("eval_") for name in record.metrics]
        raise ValueError(
            f"{record.run_id} was not scored by {metric}: compare by one of {', '.join(measured)}"
        )
    return 100 * record.metrics[f"eval_{metric}"]


def setting_text(value: Any) -> str | None:
    """Return a setting as text that is short and still tells it from others; None stays None."""
    if isinstance(value, tuple):
        return " ".join(value)
    if isinstance(value, float):
        return f"{value:g}"
    return None if value is None else str(value)


def comparison_rows(
    comparisons: Sequence[Comparison], configs: Sequence[RunConfig], records: Sequence[RunRecord]
) -> list[Row]:
    """Return one row a group of every comparison, and after several of them one that pools them.

    `difference_points` is ours - theirs in percentage points; wins, ties and losses count seeds, in
    a pooled row settings; `q` is p adjusted by Benjamini-Hochberg over all groups of the table, of
    a pooled row over all pooled rows.  A setting that differs between the sides shows as
    "ours / theirs".

    Raises
    ------
    ValueError
        As `compare`.
    """
    results = [compare(comparison, configs, records) for comparison in comparisons]
    columns = [name for name in SETTINGS if any(_varies(result, name) for result in results)]
    rows: list[Row] = []
    for result in results:
        name = result.comparison.name
        for group in result.groups:
            settings = {column: _both(group, column) for column in columns}
            rows.append({"comparison": name, **settings, "settings": 1, **_group_values(group)})
        if len(result.groups) > 1:
            rows.append({"comparison": name, **dict.fromkeys(columns), **_pooled_values(result)})
    _add_q([row for row in rows if not is_pooled(row)])
    _add_q([row for row in rows if is_pooled(row)])
    return rows


def _varies(result: ComparisonResult, name: str) -> bool:
    return len({_both(group, name) for group in result.groups}) > 1


def _both(group: Group, name: str) -> str | None:
    ours, theirs = (setting_text(getattr(side, name)) for side in (group.ours, group.theirs))
    return ours if ours == theirs else f"{ours or ABSENT} / {theirs or ABSENT}"


def _group_values(group: Group) -> Row:
    seeds = group.seeds
    if group.result is None:
        single = [group.our_accuracy[seed] - group.their_accuracy[seed] for seed in seeds]
        difference = Estimate(single[0], None, is_difference=True) if single else None
        return {"n": len(seeds), "planned": group.planned, "difference_points": difference}
    counts = (group.result.wins, group.result.ties, group.result.losses)
    return {"n": len(seeds), "planned": group.planned, **_result_values(group.result, counts)}


def _pooled_values(result: ComparisonResult) -> Row:
    finished, total = result.finished, len(result.groups)
    row: Row = {
        "settings": total if len(finished) == total else f"{len(finished)} of {total}",
        "n": result.pooled.n if result.pooled else 0,
        "planned": min(group.planned for group in finished or result.groups),
    }
    return {**row, **_result_values(result.pooled, result.counts)} if result.pooled else row


def is_pooled(row: Row) -> bool:
    """Return whether a row of comparisons pools several settings."""
    return row["settings"] != 1


def _result_values(result: PairedResult, counts: tuple[int, int, int]) -> Row:
    """Return a result's columns; no spread gives no interval, and no test unless all is equal."""
    half = None if result.effect_size is None else result.high - result.mean_difference
    return {
        "difference_points": Estimate(result.mean_difference, half, is_difference=True),
        **dict(zip(("wins", "ties", "losses"), counts, strict=True)),
        "d_z": result.effect_size,
        "p": None if result.is_constant else result.p_value,
    }


def _add_q(rows: Sequence[Row]) -> None:
    tested = [row for row in rows if isinstance(row.get("p"), float)]
    for row, q in zip(tested, adjusted([row["p"] for row in tested]), strict=True):
        row["q"] = q
