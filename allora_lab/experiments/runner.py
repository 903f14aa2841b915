"""One run, from its configuration to its record."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel

from allora_lab.build import inject_adapters
from allora_lab.config import RunConfig
from allora_lab.data.batches import batch_at, encode, halves
from allora_lab.data.chat import in_template
from allora_lab.data.datasets import load_dataset
from allora_lab.experiments import environment
from allora_lab.experiments.rank_hooks import build_hook
from allora_lab.experiments.records import RunRecord
from allora_lab.experiments.tasks import (
    Dataset,
    Evaluation,
    final_scores,
    label_names,
    model_task,
    name_labels,
    number_of_labels,
    training_notes,
)
from allora_lab.methods import get_method
from allora_lab.models.load import LoadedModel, load_model
from allora_lab.models.recompute import recompute_layers
from allora_lab.training.checkpoint import Progress
from allora_lab.training.deterministic import deterministic_kernels
from allora_lab.training.loop import train
from allora_lab.training.optimizers import build_optimizer, rate_factor
from allora_lab.training.processes import ALONE, Processes

TRACE_STEPS = (1, 2, 4, 8, 12, 16, 24, 32, 40, 48, 56, 64, 80)


def trace_steps(steps: int) -> set[int]:
    """Return when the norms are measured: often at first, then about every sixth of the run."""
    return {*TRACE_STEPS, *range(96, steps, max(16, steps // 12))}


def build_adapted(
    config: RunConfig, num_labels: int, *, trust_remote_code: bool = False
) -> LoadedModel:
    """Return the pretrained model of a run with its adapters in place; A is drawn from the seed."""
    loaded = load_model(
        config.model,
        model_task(config),
        num_labels=num_labels,
        base_dropout=config.base_dropout,
        seed=config.seed,
        dtype=config.dtype,
        trust_remote_code=trust_remote_code,
    )
    inject_adapters(
        loaded.model,
        config.method,
        r=config.r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        eta_squared=config.eta_squared,
        target_modules=config.target_modules,
        generator=torch.Generator().manual_seed(config.seed),
    )
    if config.gradient_checkpointing:
        recompute_layers(loaded.model)
    if config.compile:
        loaded.model.compile(dynamic=True)  # in place: names and tensors stay as they are
    return loaded


def build_run_optimizer(config: RunConfig, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of a run, wrapped when its method acts on the optimizer's step."""
    optimizer = build_optimizer(
        config.optimizer,
        model,
        lr=config.lr,
        head_lr=config.head_lr,
        weight_decay=config.weight_decay,
        without=get_method(config.method).own_parameters,
    )
    wrap = get_method(config.method).wrap_optimizer
    return wrap(optimizer, model, config.eta_squared) if wrap else optimizer


def fine_tune(
    config: RunConfig,
    loaded: LoadedModel,
    dataset: Dataset,
    *,
    processes: Processes = ALONE,
    checkpoint: Path | None = None,
    on_note: Callable[[str], None] = lambda _note: None,
    on_step: Callable[[Progress], None] = lambda _progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Progress, float, int]:
    """Train a run's adapted model in place, on the device it is on.

    Returns its progress, the seconds of training without those of evaluations on the way, and how
    many tokens were trained on in them, padding left out.
    """
    start = time.perf_counter()
    data = encode(loaded.tokenizer, dataset.train.first(config.train_size), config.max_length)
    batches = {
        "batch_size": config.batch_size,
        "seed": config.seed,
        "length_pool": config.length_pool,
    }
    schedule = {"warmup_steps": config.warmup_steps, "schedule": config.schedule}
    evaluation = Evaluation(config, loaded, data, dataset, on_note)
    optimizer = build_run_optimizer(config, loaded.model)
    for note in training_notes(config, data):
        on_note(note)
    data, other = halves(data) if get_method(config.method).splits_train else (data, None)
    tokens = 0

    def next_batch(number: int) -> dict[str, torch.Tensor]:
        nonlocal tokens
        batch = batch_at(data, step=number, **batches)
        tokens += int(batch["attention_mask"].sum())
        return processes.share(batch)

    progress = train(
        loaded.model,
        optimizer,
        next_batch,
        steps=config.steps,
        accumulate=config.gradient_accumulation_steps,
        seed=config.seed,
        run_id=f"{config.run_id} of {loaded.revision[:12]} on {dataset.revision[:12]}",
        trace_steps=trace_steps(config.steps),
        eval_every=config.eval_every,
        evaluate=evaluation,
        rate_factor=partial(rate_factor, steps=config.steps, **schedule),
        clip_norm=config.clip_norm,
        hook=build_hook(config, loaded, dataset, optimizer, data, other),
        processes=processes,
        checkpoint=checkpoint,
        on_note=on_note,
        on_step=on_step,
        should_stop=should_stop,
    )
    return progress, time.perf_counter() - start - evaluation.seconds, tokens


def require_shareable(config: RunConfig, processes: Processes) -> None:
    """Raise ValueError if several processes cannot share a run."""
    if processes.count == 1:
        return
    if get_method(config.method).build_hook:
        raise ValueError(
            f"{config.method} moves or weighs ranks, which one process does: start it without a launcher"
        )
    if config.gradient_draws:
        raise ValueError("gradient_draws is for one process: leave it out, or start one")
    if config.batch_size % processes.count:
        raise ValueError(
            f"batch_size is of all {processes.count} processes together and must be a multiple of "
            f"their number, got {config.batch_size}"
        )


def _loaded(config: RunConfig, *, trust_remote_code: bool = False) -> tuple[Dataset, LoadedModel]:
    """Return the data of a run and its adapted model, whose labels have their names."""
    dataset = load_dataset(config.dataset)
    loaded = build_adapted(config, number_of_labels(dataset), trust_remote_code=trust_remote_code)
    dataset = in_template(dataset, loaded.tokenizer)
    name_labels(loaded.model, dataset)
    return dataset, loaded


def restored_model(
    config: RunConfig, checkpoint: Path, *, trust_remote_code: bool = False
) -> PreTrainedModel:
    """Return the model of a finished run, with the adapters that its checkpoint holds.

    Raises
    ------
    ValueError
        If the checkpoint is damaged, or of another run, other data or another model.
    """
    dataset, loaded = _loaded(config, trust_remote_code=trust_remote_code)
    fine_tune(config, loaded, dataset, checkpoint=checkpoint)  # no step is left to do
    return loaded.model


def run(
    config: RunConfig,
    *,
    device: str = "auto",
    deterministic: bool = False,
    processes: Processes = ALONE,
    trust_remote_code: bool = False,
    checkpoint: Path | None = None,
    on_built: Callable[[PreTrainedModel], None] = lambda _model: None,
    on_note: Callable[[str], None] = lambda _note: None,
    on_step: Callable[[Progress], None] = lambda _progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunRecord | None:
    """Fine-tune as `config` says and return the record, or None if it was stopped before the end.

    Of several `processes` each trains on its share of every batch, whose size is that of all shares
    together, and the first alone evaluates, keeps the checkpoint and returns the record; methods that
    move ranks, and measuring the gradient's spread, are for one process (ValueError).

    A checkpoint, when one is named, is resumed from if it exists.  At the end it holds the trained
    adapters: keep it, or remove it once the record is written.  `on_built` is given the adapted model
    before training, which changes it in place.  `on_note` is given each sentence about the data.
    `trust_remote_code` is as in `load_model`.  `deterministic` allows only kernels that repeat themselves, which matters on CUDA.
    """
    require_shareable(config, processes)
    where = environment.resolve_device(device)
    commit, dirty = environment.code_version()
    dataset, loaded = _loaded(config, trust_remote_code=trust_remote_code)
    for note in dataset.notes:
        on_note(note)
    model = loaded.model.to(where)
    on_built(model)
    environment.reset_peak_memory(where)
    calls = {"checkpoint": checkpoint, "on_step": on_step, "should_stop": should_stop}
    calls |= {"processes": processes, "on_note": on_note}
    with deterministic_kernels(deterministic):
        progress, train_seconds, tokens = fine_tune(config, loaded, dataset, **calls)
        if progress.done < config.steps or not processes.is_first:
            return None
        result = final_scores(config, loaded, dataset, model)
    return RunRecord(
        run_id=config.run_id,
        config=config.to_json(),
        metrics={f"eval_{name}": value for name, value in result.items()},
        trace=progress.trace,
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        train_seconds=round(train_seconds, 3),
        peak_memory_bytes=environment.peak_memory_bytes(where),
        model_revision=loaded.revision,
        dataset_revision=dataset.revision,
        code_commit=commit,
        code_dirty=dirty,
        packages=environment.package_versions(),
        device=environment.device_name(where),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        tokens_per_second=round(tokens / train_seconds, 1) if tokens else None,
        processes=processes.count,
        label_names=label_names(dataset),
    )
