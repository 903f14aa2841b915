"""The part of a run that moves ranks, built from its configuration and its data."""

from dataclasses import fields
from functools import partial

from torch.optim import Optimizer

from allora_lab.allocation.hook import TrainingHook
from allora_lab.allocation.settings import AllocationSettings, HookContext
from allora_lab.config import RunConfig
from allora_lab.data.batches import Encoded, batch_at, collate, encode
from allora_lab.data.prompts import PromptDataset
from allora_lab.data.text import TextDataset
from allora_lab.methods import get_method
from allora_lab.models.load import LoadedModel

SCORE_SIZE = 32  # |B_val| of the paper


def allocation_settings(config: RunConfig, train_rows: int) -> AllocationSettings:
    """Return a run's settings: K1 one epoch and K2 a quarter of K1, unless it names others.

    Where a method ends its allocation before the end of the run, the K1 that is not named comes before.
    """
    epoch = max(1, train_rows // (config.batch_size * config.gradient_accumulation_steps))
    ends = get_method(config.method).allocation_ends
    first = epoch if ends is None else max(1, min(epoch, int(ends * config.steps) - 1))
    defaults = {
        "first_round": first,
        "round_every": max(1, first // 4),
        "gate_lr": config.lr,
    }
    named = {field.name: getattr(config, field.name, None) for field in fields(AllocationSettings)}
    given = {name: value for name, value in named.items() if value is not None}
    return AllocationSettings(**{**defaults, **given})


def score_split(
    config: RunConfig, loaded: LoadedModel, dataset: TextDataset | PromptDataset
) -> Encoded:
    """Return the sentences that score the ranks: the last of the dev split.

    Raises ValueError when that is empty.
    """
    if not len(dataset.dev):
        raise ValueError(
            f"{config.method} scores ranks on dev sentences and {config.dataset} has none: choose "
            "another data set, or alora-sensitivity, which needs none"
        )
    size = SCORE_SIZE if config.score_size is None else config.score_size
    split = dataset.dev.last(size)
    return encode(loaded.tokenizer, split, config.max_length)


def build_hook(
    config: RunConfig,
    loaded: LoadedModel,
    dataset: TextDataset | PromptDataset,
    optimizer: Optimizer,
    data: Encoded,
    other: Encoded | None,
) -> TrainingHook | None:
    """Return the method's own part in training, or None for a method that has none.

    `data` is what A and B learn from, `other` what is left to the hook, where the method asks for it.
    """
    method = get_method(config.method)
    if method.build_hook is None:
        return None
    score_batch = None
    if "score_size" in method.hook_settings:
        held_out = score_split(config, loaded, dataset)
        score_batch = collate(held_out, range(len(held_out)))
    rows = len(data) + (len(other) if other else 0)
    batches = {
        "batch_size": config.batch_size,
        "seed": config.seed,
        "length_pool": config.length_pool,
    }
    return method.build_hook(
        HookContext(
            model=loaded.model,
            optimizer=optimizer,
            settings=allocation_settings(config, rows),
            steps=config.steps,
            seed=config.seed,
            score_batch=score_batch,
            other_batch_at=partial(_batch, other, batches) if other else None,
        )
    )


def _batch(split: Encoded, batches: dict[str, int], step: int) -> dict:
    return batch_at(split, step=step, **batches)
