"""How alike two batches of 32 order the ranks, and how alike the ablation and its rivals do.

One fine-tune of `sweeps/allocation.toml` up to its first round; then AB-LoRA's scores on BATCHES
disjoint batches of dev sentences, the smoothed sensitivity and the norms.  A score on the union of
equal batches is the mean of theirs, for S is a mean over sentences.
"""

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from scipy import stats

from allora_lab.allocation.hook import TrainingHook
from allora_lab.allocation.places import gated_layers
from allora_lab.allocation.replay import replayed_scores
from allora_lab.allocation.sensitivity import Sensitivity
from allora_lab.config import RunConfig, config_from
from allora_lab.data.batches import batch_at, collate, encode
from allora_lab.data.text import load_text
from allora_lab.experiments import environment
from allora_lab.experiments.allocation_runs import allocation_config
from allora_lab.experiments.runner import build_adapted, build_run_optimizer
from allora_lab.files import results_folder, written_whole
from allora_lab.training.loop import train

FOLDER = "score-stability"
SEEDS = (0, 1, 2, 3, 4)
BATCHES, SIZE = 8, 32
EPOCH = 128  # steps before the first round
LOWEST = 6  # n_A: the ranks that would be pruned


@dataclass(frozen=True, kw_only=True)
class StabilityRecord:
    """The scores of one fine-tune.

    `ablation` has, for each batch, every rank's score, layer after layer; `sensitivity` and
    `magnitude` every rank's.
    """

    run_id: str
    config: dict[str, Any]
    ablation: list[list[float]]
    sensitivity: list[float]
    magnitude: list[float]
    seconds: float
    model_revision: str
    dataset_revision: str
    code_commit: str | None
    code_dirty: bool | None
    packages: dict[str, str]
    device: str
    finished_at: str


def stability_config(seed: int, **changes: Any) -> RunConfig:
    """Return the fine-tune of a seed: to the end of the first epoch, before any rank has moved."""
    settings = {"steps": EPOCH, "first_round": EPOCH, **changes}
    return allocation_config("alora-sensitivity", 4, None, seed, **settings)


def record_file(config: RunConfig) -> Path:
    """Return where a record stands."""
    return results_folder() / FOLDER / f"{config.run_id}.json"


def read_stability(path: Path) -> StabilityRecord:
    """Return the record in a file; ValueError where it is damaged or was edited."""
    try:
        values = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}): delete it and record again") from None
    if not isinstance(values, dict) or values.keys() != {f.name for f in fields(StabilityRecord)}:
        raise ValueError(f"{path} is no record of this version: delete it and record again")
    if config_from(values["config"]).run_id != values["run_id"]:
        raise ValueError(f"{path} was edited: its settings give another run_id; record it again")
    return StabilityRecord(**values)


class Watch(TrainingHook):
    """Keeps the sensitivities up, and moves nothing."""

    def __init__(self, sensitivity: Sensitivity) -> None:
        self.sensitivity = sensitivity

    def after_backward(self) -> None:
        """Take the gradients in."""
        self.sensitivity.update()


def _flat(scores: dict[str, torch.Tensor]) -> list[float]:
    return [float(f"{value:.8g}") for row in scores.values() for value in row.tolist()]


def measure_stability(
    config: RunConfig, batches: int = BATCHES, size: int = SIZE
) -> StabilityRecord:
    """Fine-tune, score every rank on each batch, and return the record.

    Raises ValueError when the dev split has fewer than batches x size sentences.
    """
    start = time.perf_counter()
    commit, dirty = environment.code_version()
    dataset = load_text(config.dataset)
    if len(dataset.dev) < batches * size:
        raise ValueError(
            f"{config.dataset} has {len(dataset.dev)} dev sentences, and {batches} batches of "
            f"{size} need {batches * size}: choose a larger set"
        )
    loaded = build_adapted(config, len(dataset.label_names))
    model = loaded.model
    watch = Watch(Sensitivity(gated_layers(model)))
    data = encode(loaded.tokenizer, dataset.train.first(config.train_size), config.max_length)
    train(
        model,
        build_run_optimizer(config, model),
        lambda step: batch_at(data, step=step, batch_size=config.batch_size, seed=config.seed),
        steps=config.steps,
        seed=config.seed,
        run_id=config.run_id,
        hook=watch,
    )
    model.eval()
    split = encode(loaded.tokenizer, dataset.dev.last(batches * size), config.max_length)
    ablation = []
    for place in range(batches):
        batch = collate(split, range(place * size, (place + 1) * size))
        ablation.append(_flat(replayed_scores(model, batch)))
    layers = gated_layers(model)
    return StabilityRecord(
        run_id=config.run_id,
        config=config.to_json(),
        ablation=ablation,
        sensitivity=_flat(watch.sensitivity.scores()),
        magnitude=_flat({name: layer.rank_norms() for name, layer in layers.items()}),
        seconds=round(time.perf_counter() - start, 3),
        model_revision=loaded.revision,
        dataset_revision=dataset.revision,
        code_commit=commit,
        code_dirty=dirty,
        packages=environment.package_versions(),
        device=environment.device_name(torch.device("cpu")),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def record_missing() -> Iterator[RunConfig]:
    """Measure and record what is missing; gives each run before it starts."""
    for config in map(stability_config, SEEDS):
        if not record_file(config).exists():
            yield config
            record = measure_stability(config)
            with written_whole(record_file(config)) as partial:
                partial.write_text(json.dumps(asdict(record), separators=(",", ":")) + "\n")


def agreement(
    ours: Sequence[float], theirs: Sequence[float], n: int = LOWEST
) -> tuple[float, float]:
    """Return Spearman's rank correlation of two score lists, and what share of the n lowest is shared."""
    lowest = [set(np.argsort(row, kind="stable")[:n].tolist()) for row in (ours, theirs)]
    return float(stats.spearmanr(ours, theirs).statistic), len(lowest[0] & lowest[1]) / n


def batch_agreement(record: StabilityRecord, together: int) -> tuple[float, float]:
    """Return the mean agreement of two disjoint unions of so many batches."""
    rows = np.array(record.ablation)
    unions = rows[: len(rows) // together * together].reshape(-1, together, rows.shape[1]).mean(1)
    pairs = [agreement(a.tolist(), b.tolist()) for a, b in itertools.combinations(unions, 2)]
    return fmean(rho for rho, _ in pairs), fmean(share for _, share in pairs)


def stability_sentences() -> list[str]:
    """Say how stable the order of ranks is, from the records there are.

    Raises FileNotFoundError when there is none.
    """
    paths = [record_file(config) for config in map(stability_config, SEEDS)]
    records = [read_stability(path) for path in paths if path.exists()]
    if not records:
        raise FileNotFoundError(
            "no score is recorded: run `python -m allora_lab.experiments.score_stability`"
        )
    ranks = len(records[0].magnitude)
    said = []
    for together in (1, 4):
        if len(records[0].ablation) < 2 * together:
            continue
        found = [batch_agreement(record, together) for record in records]
        rho, share = (fmean(values) for values in zip(*found, strict=True))
        said.append(
            f"Two batches of {together * SIZE} dev sentences order MiniLM's {ranks} ranks with a "
            f"Spearman correlation of {rho:.2f} and share {share:.0%} of the {LOWEST} lowest "
            f"(mean of {len(records)} fine-tunes; by chance {LOWEST / ranks:.0%})."
        )
    for name in ("sensitivity", "magnitude"):
        rhos = [
            agreement(np.mean(r.ablation, axis=0).tolist(), getattr(r, name))[0] for r in records
        ]
        size = len(records[0].ablation) * SIZE
        said.append(
            f"The ablation on {size} sentences and the {name} correlate by {fmean(rhos):.2f}."
        )
    return said


if __name__ == "__main__":
    for run in record_missing():
        print(run.run_id, flush=True)
    print("\n".join(stability_sentences()))
