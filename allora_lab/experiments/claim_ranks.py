"""What the runs that move ranks say of ALoRA's claims: a known answer, images, MiniLM, batches of 32."""

from collections.abc import Callable, Sequence
from functools import partial

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
