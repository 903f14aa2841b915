"""What runs with dynamic rank allocation say of ALoRA's claims: a known answer, images, MiniLM."""

from collections.abc import Callable
from statistics import fmean, pstdev

from allora_lab.checks import require_known
from allora_lab.experiments import allocation_runs
from allora_lab.experiments.allocation_content import ATTENTION, FEED_FORWARD, final_ranks, share_of
from allora_lab.experiments.collected import DATASET_LABELS
from allora_lab.experiments.evidence import Evidence, evidence_of
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
    batch_agreement,
    read_stability,
    stability_config,
)
from allora_lab.experiments.score_stability import record_file as stability_file

GROUPS = {"query and key": ATTENTION[:2], "the feed-forward modules": FEED_FORWARD}
TASKS = {"planted": "known answer", "digits": "images of digits"}

# by its name: method, examples that score, ranks moved in a round (None: one per module of a block)
SETTINGS = {
    "LoRA": ("lora", 32, None),
    "ALoRA, 32 examples": ("alora-ablation", 32, None),
    "ALoRA, 1,024 examples": ("alora-ablation", 1024, None),
    "ALoRA, 1,024 examples, n_A = 1": ("alora-ablation", 1024, 1),
    "ALoRA-Sensi": ("alora-sensitivity", 32, None),
    "ALoRA-DNAS": ("alora-dnas", 32, None),
    "at random": ("alora-random", 32, None),
    "AdaLoRA": ("adalora", 32, None),
    "SoRA": ("sora", 32, None),
}


def _runs(task: str, setting: str) -> list[RankRecord] | None:
    """Return a setting's records by seed, or None while one is missing."""
    require_known("setting of rank allocation", setting, SETTINGS)
    method, rows, moved = SETTINGS[setting]

    def is_meant(config: RankConfig) -> bool:
        key = config.method, config.score_rows, config.ranks_moved
        return config.task == task and key == (method, rows, moved)

    paths = [record_file(config) for config in planned() if is_meant(config)]
    if len(paths) != len(SEEDS) or not all(path.exists() for path in paths):
        return None
    return [read_rank_record(path) for path in paths]


def ranks_of_use(setting: str) -> Evidence | None:
    """Return how many of eight ranks end in the two modules that can use them (known answer)."""
    runs = _runs("planted", setting)
    what = f"{setting}: of 8 ranks, those that end in the two modules that need them"
    return None if runs is None else evidence_of(what, [float(in_planted(run)) for run in runs])


def ranks_left(task: str, setting: str) -> list[int]:
    """Return how many ranks a setting's runs end with, by seed; ValueError if one is not recorded."""
    runs = _runs(task, setting)
    if runs is None:
        raise ValueError(f"{setting} on {task} is not recorded: run the rank tasks first")
    return [sum(run.final_ranks.values()) for run in runs]


def rank_accuracy(task: str, ours: str, theirs: str) -> Evidence | None:
    """Return the accuracy of one of SETTINGS minus another's, on the known answer or on digits."""
    first, second = _runs(task, ours), _runs(task, theirs)
    if first is None or second is None:
        return None
    points = [100 * (a.accuracy - b.accuracy) for a, b in zip(first, second, strict=True)]
    what = f"{TASKS[task]}: {ours} − {theirs}, points of accuracy"
    return evidence_of(what, points)


AGREEMENTS: dict[str, tuple[str, Callable[..., float]]] = {
    "order-32": (
        "rank correlation of the scores from two batches of 32",
        lambda record: batch_agreement(record, 1)[0],
    ),
    "lowest-32": (
        "share of the six lowest ranks that two batches of 32 agree on",
        lambda record: batch_agreement(record, 1)[1],
    ),
    "lowest-128": (
        "share of the six lowest ranks that two batches of 128 agree on",
        lambda record: batch_agreement(record, 4)[1],
    ),
}


def score_agreement(of: str) -> Evidence | None:
    """Return one of AGREEMENTS between the scores of two batches of sentences, in MiniLM."""
    require_known("agreement of scores", of, AGREEMENTS)
    paths = [stability_file(config) for config in map(stability_config, SCORED)]
    if not all(path.exists() for path in paths):
        return None
    words, of_record = AGREEMENTS[of]
    return evidence_of(f"MiniLM: {words}", [of_record(read_stability(path)) for path in paths])


def share_of_ranks(dataset: str, group: str, moved: int | None = None) -> Evidence | None:
    """Return the percent of ALoRA's ranks that ends in a group of modules, minus that at the start."""
    require_known("group of modules", group, GROUPS)
    planned_runs = [
        config
        for config in allocation_runs.planned_runs()
        if (config.method, config.dataset, config.r) == ("alora-ablation", dataset, 4)
        and config.ranks_moved == moved
    ]
    records = [allocation_runs.recorded_run(config) for config in planned_runs]
    if not records or None in records:
        return None
    how = f", n_A = {moved}" if moved else ""
    label = DATASET_LABELS[dataset]
    what = f"{label}{how}: percent of the ranks that end in {group}, minus that at the start"
    start = 100 / 3  # two of a block's six modules
    return evidence_of(what, [share_of(r, GROUPS[group]) - start for r in records if r])


def unevenness(record: RunRecord) -> float:
    """Return the standard deviation of the final ranks over modules, over their mean."""
    ranks = list(final_ranks(record).values())
    return pstdev(ranks) / fmean(ranks)


def more_uneven(dataset: str) -> Evidence | None:
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
    label = DATASET_LABELS[dataset]
    what = f"{label}: spread of the ranks over modules over their mean, SoRA's minus ALoRA's"
    return evidence_of(what, [a - b for a, b in zip(*by_method, strict=True)])


MEASURES: dict[str, Callable[..., Evidence | None]] = {
    "ranks-of-use": ranks_of_use,
    "rank-accuracy": rank_accuracy,
    "score-agreement": score_agreement,
    "share-of-ranks": share_of_ranks,
    "more-uneven": more_uneven,
}
