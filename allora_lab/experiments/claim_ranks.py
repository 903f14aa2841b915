"""What the runs that move ranks say of ALoRA's claims: a known answer, images, MiniLM, batches of 32."""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean, pstdev

from allora_lab.experiments import allocation_runs
from allora_lab.experiments.allocation_content import ATTENTION, FEED_FORWARD, final_ranks, share_of
from allora_lab.experiments.claim_rules import Evidence, evidence_of
from allora_lab.experiments.rank_content import in_planted
from allora_lab.experiments.rank_runs import (
    SEEDS,
    RankConfig,
    RankRecord,
    planned,
    read_rank_record,
    record_file,
)
from allora_lab.experiments.records import RunRecord
from allora_lab.experiments.score_stability import (
    SEEDS as SCORED,
)
from allora_lab.experiments.score_stability import (
    agreement,
    batch_agreement,
    read_stability,
    stability_config,
)
from allora_lab.experiments.score_stability import record_file as stability_file

QUERY_KEY = ATTENTION[:2]
GROUPS = {QUERY_KEY: "query and key", FEED_FORWARD: "the feed-forward modules"}

# by the name a claim uses: method, examples that score, ranks moved (None: one a module of a block)
SETTINGS = {
    "lora": ("lora", 32, None),
    "ablation": ("alora-ablation", 32, None),
    "ablation-1024": ("alora-ablation", 1024, None),
    "ablation-1024-one": ("alora-ablation", 1024, 1),
    "sensitivity": ("alora-sensitivity", 32, None),
    "dnas": ("alora-dnas", 32, None),
    "magnitude": ("alora-magnitude", 32, None),
    "random": ("alora-random", 32, None),
    "adalora": ("adalora", 32, None),
    "sora": ("sora", 32, None),
    "oracle": ("oracle", 32, None),
}


def _runs(task: str, setting: str) -> list[RankRecord] | None:
    """Return a setting's records by seed, or None while one is missing."""
    method, rows, moved = SETTINGS[setting]

    def is_meant(config: RankConfig) -> bool:
        key = config.method, config.score_rows, config.ranks_moved
        return config.task == task and key == (method, rows, moved)

    paths = [record_file(config) for config in planned() if is_meant(config)]
    if len(paths) != len(SEEDS) or not all(path.exists() for path in paths):
        return None
    return [read_rank_record(path) for path in paths]


def _of_use(setting: str) -> Evidence | None:
    runs = _runs("planted", setting)
    what = f"{setting}: of 8 ranks, those that end in the two modules where they are of use"
    if runs is None:
        return None
    values = [float(in_planted(run)) for run in runs]
    return evidence_of(what, values)


def _accuracy(task: str, ours: str, theirs: str) -> Evidence | None:
    first, second = _runs(task, ours), _runs(task, theirs)
    if first is None or second is None:
        return None
    points = [100 * (a.accuracy - b.accuracy) for a, b in zip(first, second, strict=True)]
    return evidence_of(f"{task}: accuracy of {ours} less {theirs}, points", points)


def _stability(of: Callable[..., float], what: str) -> Evidence | None:
    paths = [stability_file(config) for config in map(stability_config, SCORED)]
    if not all(path.exists() for path in paths):
        return None
    return evidence_of(what, [of(read_stability(path)) for path in paths])


def _share(
    dataset: str, moved: int | None, group: tuple[str, ...], start: float
) -> Evidence | None:
    """Return the share of ALoRA's ranks that ends in a group of modules, less that at the start."""
    planned_runs = [
        config
        for config in allocation_runs.planned_runs()
        if (config.method, config.dataset, config.r) == ("alora-ablation", dataset, 4)
        and config.ranks_moved == moved
    ]
    records = [allocation_runs.recorded_run(config) for config in planned_runs]
    if not records or None in records:
        return None
    name = GROUPS[group]
    how = f", n_A = {moved}" if moved else ""
    what = f"{dataset}{how}: percent of the ranks that end in {name}, less those at the start"
    return evidence_of(what, [share_of(record, group) - start for record in records if record])


def unevenness(record: RunRecord) -> float:
    """Return the standard deviation of the final ranks over modules, over their mean."""
    ranks = list(final_ranks(record).values())
    return pstdev(ranks) / fmean(ranks)


def _more_uneven(dataset: str) -> Evidence | None:
    """Return how much more unevenly SoRA's ranks end than ALoRA's, by seed."""
    by_method = []
    for method, r in (("sora", 8), ("alora-ablation", 4)):
        runs = [
            allocation_runs.recorded_run(config)
            for config in allocation_runs.planned_runs()
            if (config.method, config.dataset, config.r) == (method, dataset, r)
            and config.ranks_moved is None
        ]
        if not runs or None in runs:
            return None
        by_method.append([unevenness(run) for run in runs if run])
    what = f"{dataset}: spread of the ranks over modules over their mean, SoRA's less ALoRA's"
    return evidence_of(what, [a - b for a, b in zip(*by_method, strict=True)])


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


RANK_EVIDENCE: dict[str, Callable[[], Evidence | None]] = {
    **{f"planted-{name}-of-use": partial(_of_use, name) for name in SETTINGS},
    **{
        f"{task}-{ours}-less-{theirs}": partial(_accuracy, task, ours, theirs)
        for task in ("planted", "digits")
        for ours in SETTINGS
        for theirs in SETTINGS
        if ours != theirs
        and (
            task == "planted"
            or not {ours, theirs} & {"oracle", "ablation-1024", "ablation-1024-one"}
        )
    },
    **{
        f"ranks-{short}-{group}": partial(_share, dataset, moved, modules, start)
        for short, dataset, moved in (
            ("rotten-tomatoes", "rotten_tomatoes", None),
            ("rotten-tomatoes-24", "rotten_tomatoes", 24),
            ("emotion", "emotion", None),
        )
        for group, modules, start in (
            ("query-key", QUERY_KEY, 100 / 3),
            ("feed-forward", FEED_FORWARD, 100 / 3),
        )
    },
    **{
        f"sora-more-uneven-{dataset.replace('_', '-')}": partial(_more_uneven, dataset)
        for dataset in ("rotten_tomatoes", "emotion")
    },
    "scores-two-batches-of-32": partial(
        _stability,
        lambda record: batch_agreement(record, 1)[0],
        "MiniLM: rank correlation of the scores from two batches of 32",
    ),
    "scores-two-batches-of-128": partial(
        _stability,
        lambda record: batch_agreement(record, 4)[0],
        "MiniLM: rank correlation of the scores from two batches of 128",
    ),
    "scores-lowest-shared": partial(
        _stability,
        lambda record: batch_agreement(record, 1)[1],
        "MiniLM: share of the six lowest ranks that two batches of 32 agree on",
    ),
    "scores-ablation-sensitivity": partial(
        _stability,
        lambda record: agreement(_mean(record.ablation), record.sensitivity)[0],
        "MiniLM: rank correlation of ablation (256 sentences) and sensitivity",
    ),
}
