"""One run on a task of `rank_tasks`, through the one training loop, and its record."""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from allora_lab.adapters.inject import adapted_layers
from allora_lab.allocation.settings import AllocationSettings, HookContext
from allora_lab.build import inject_adapters
from allora_lab.checks import require_at_least, require_known
from allora_lab.experiments import environment
from allora_lab.experiments.rank_tasks import TASKS, RankTask
from allora_lab.files import results_folder, written_whole
from allora_lab.methods import get_method
from allora_lab.training.loop import train
from allora_lab.training.optimizers import build_optimizer, rate_factor

FOLDER = "rank-tasks"
METHOD_KEYS = (
    *("lora", "alora-ablation", "alora-sensitivity", "alora-dnas"),
    *("alora-magnitude", "alora-random", "adalora", "sora"),
)
SEEDS = (0, 1, 2, 3, 4)
ORACLE = "oracle"  # fixed LoRA with every rank where it is of use


@dataclass(frozen=True, kw_only=True)
class RankConfig:
    """A task, a method (or "oracle": ranks in the planted modules from the start) and a seed."""

    task: str
    method: str
    r: int = 1
    lr: float = 0.01
    steps: int = 1200
    batch_size: int = 64
    first_round: int = 200
    round_every: int = 100
    rounds: int = 8
    ranks_moved: int | None = None
    score_rows: int = 32
    gate_threshold: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        require_known("task", self.task, TASKS)
        if self.method != ORACLE:
            get_method(self.method)
        for name in ("r", "steps", "batch_size", "first_round", "round_every", "rounds"):
            require_at_least(name, getattr(self, name), 1)

    @property
    def run_id(self) -> str:
        """Return a file-safe name and a digest of every setting."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{self.task}--{self.method}--seed{self.seed}--{digest[:8]}"


@dataclass(frozen=True, kw_only=True)
class RankRecord:
    """What a run gave: accuracy on held-out data, and the ranks by module after every round.

    `allocation` has `step` and `ranks` (by module, one value a round); `start_ranks` those before;
    accuracies are shares of 1.
    """

    run_id: str
    config: dict[str, Any]
    accuracy: float
    loss: float
    start_ranks: dict[str, int]
    final_ranks: dict[str, int]
    allocation: dict[str, Any]
    planted: list[str]
    seconds: float
    code_commit: str | None
    code_dirty: bool | None
    packages: dict[str, str]
    device: str
    finished_at: str


def record_file(config: RankConfig) -> Path:
    """Return where a run's record stands."""
    return results_folder() / FOLDER / f"{config.run_id}.json"


def read_rank_record(path: Path) -> RankRecord:
    """Return the record in a file; ValueError where it is damaged or was edited."""
    try:
        values = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}): delete it and record again") from None
    if not isinstance(values, dict) or values.keys() != {f.name for f in fields(RankRecord)}:
        raise ValueError(f"{path} is no record of this version: delete it and record again")
    if RankConfig(**values["config"]).run_id != values["run_id"]:
        raise ValueError(f"{path} was edited: its settings give another run_id; record it again")
    return RankRecord(**values)


def _adapt(config: RankConfig, task: RankTask) -> str:
    """Put a run's adapters into the task's model and return the method they are of."""
    method, targets, r = config.method, task.target_modules, config.r
    if config.method == ORACLE:
        modules = sum(n.endswith(targets) for n, _ in task.model.named_modules())
        method, targets, r = "lora", task.planted, config.r * modules // len(task.planted)
    if config.method in ("adalora", "sora"):
        r = 2 * r  # these start with twice the ranks and end with about half
    generator = torch.Generator().manual_seed(config.seed)
    inject_adapters(task.model, method, r=r, target_modules=targets, generator=generator)
    return method


def _context(config: RankConfig, task: RankTask, optimizer: torch.optim.Optimizer) -> HookContext:
    settings = AllocationSettings(
        first_round=config.first_round,
        round_every=config.round_every,
        rounds=config.rounds,
        ranks_moved=config.ranks_moved,
        gate_threshold=config.gate_threshold,
        gate_penalty=0.1,
        gate_lr=config.lr,
    )
    rows = len(task.data["train"][1])
    return HookContext(
        model=task.model,
        optimizer=optimizer,
        settings=settings,
        steps=config.steps,
        seed=config.seed,
        score_batch=task.batch("score", slice(config.score_rows)),
        other_batch_at=lambda step: _batch(config, task, step + 10**6, rows // 2, rows),
    )


def _batch(config: RankConfig, task: RankTask, step: int, low: int, high: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    rows = torch.randint(low, high, (config.batch_size,), generator=generator)
    return task.batch("train", rows)


def run_rank_task(config: RankConfig) -> RankRecord:
    """Adapt the task's model as `config` says and return the record."""
    start = time.perf_counter()
    commit, dirty = environment.code_version()
    task = TASKS[config.task](config.seed)
    row = get_method(_adapt(config, task))
    optimizer = build_optimizer(
        "adamw",
        task.model,
        lr=config.lr,
        head_lr=config.lr,
        weight_decay=0.0,
        without=row.own_parameters,
    )
    layers = adapted_layers(task.model)
    start_ranks = {name: layer.r for name, layer in layers.items()}
    hook = row.build_hook(_context(config, task, optimizer)) if row.build_hook else None
    rows = len(task.data["train"][1]) // (2 if row.splits_train else 1)
    progress = train(
        task.model,
        optimizer,
        lambda step: _batch(config, task, step, 0, rows),
        steps=config.steps,
        seed=config.seed,
        run_id=config.run_id,
        rate_factor=lambda s: rate_factor(s, steps=config.steps, warmup_steps=0, schedule="linear"),
        hook=hook,
    )
    task.model.eval()
    test = task.batch("test")
    with torch.no_grad():
        output = task.model(**test)
    return RankRecord(
        run_id=config.run_id,
        config=asdict(config),
        accuracy=(output.logits.argmax(dim=1) == test["labels"]).double().mean().item(),
        loss=output.loss.item(),
        start_ranks=start_ranks,
        final_ranks={name: layer.r for name, layer in layers.items()},
        allocation=progress.trace.get("allocation", {}),
        planted=list(task.planted),
        seconds=round(time.perf_counter() - start, 3),
        code_commit=commit,
        code_dirty=dirty,
        packages=environment.package_versions(),
        device=environment.device_name(torch.device("cpu")),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def planned() -> list[RankConfig]:
    """Return the runs of the experiment: every method and seed on both tasks, and the oracle."""
    made = [
        RankConfig(task="planted", method=method, seed=seed)
        for seed in SEEDS
        for method in (*METHOD_KEYS, ORACLE)
    ]
    made += [  # is it the score, or the batch it is measured on, or how many move at once?
        RankConfig(
            task="planted", method="alora-ablation", seed=seed, score_rows=1024, ranks_moved=moved
        )
        for seed in SEEDS
        for moved in (None, 1)
    ]
    made += [
        RankConfig(
            task="digits",
            method=method,
            seed=seed,
            r=2,
            lr=0.005,
            steps=300,
            batch_size=32,
            first_round=60,
            round_every=25,
        )
        for seed in SEEDS
        for method in METHOD_KEYS
    ]
    return made


def record_missing() -> Iterator[tuple[RankConfig, int, int]]:
    """Run and record what is missing; gives each run before it starts, its place and how many."""
    missing = [config for config in planned() if not record_file(config).exists()]
    for place, config in enumerate(missing):
        yield config, place, len(missing)
        record = run_rank_task(config)
        with written_whole(record_file(config)) as partial:
            partial.write_text(json.dumps(asdict(record), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    for config, place, total in record_missing():
        print(f"{place + 1}/{total} {config.run_id}", flush=True)
