"""The smallest change under which a step fits a memory."""

from typing import Any

from transformers import PreTrainedConfig

from allora_lab.methods import get_method
from allora_lab.planning.memory import GIB, step_memory, usable_bytes
from allora_lab.planning.shapes import build_on_meta
from allora_lab.planning.throughput import GPUS


def _changes(settings: dict[str, Any], has_checkpointing: bool) -> list[dict[str, Any]]:
    """Return the changes worth trying, smallest first.

    Checkpointing costs time and changes no number; bfloat16 changes rounding; a smaller batch changes
    the training; shorter sentences lose text.
    """
    can_narrow = (
        settings["dtype"] != "bfloat16" and get_method(settings["method"]).build_hook is None
    )
    can_recompute = has_checkpointing and not settings["is_checkpointed"]
    recompute = {"is_checkpointed": True} if can_recompute else {}
    narrow = {"dtype": "bfloat16"} if can_narrow else {}
    changes = [recompute, narrow, {**recompute, **narrow}]
    for name in ("batch_size", "max_length"):
        value = settings[name]
        while value > 1:
            value //= 2
            changes.append({**changes[-1], name: value})
    return [change for i, change in enumerate(changes) if change and change not in changes[:i]]


def _in_words(change: dict[str, Any]) -> str:
    flags = []
    for name, value in change.items():
        flag = {"is_checkpointed": "--gradient-checkpointing"}.get(name)
        flags.append(flag or f"--{name.replace('_', '-')} {value}")
    return " ".join(flags)


def smallest_change(
    config: PreTrainedConfig, settings: dict[str, Any], *, memory_gib: float
) -> str:
    """Return, in one sentence, the smallest change of `step_memory`'s settings that fits a memory.

    Tried in this order: gradient checkpointing, bfloat16, both, then with those half the batch and on,
    then half the length and on.  Where none fits, the sentence says how much memory the settings would
    take with checkpointing and bfloat16, and which GPUs of the table have it.
    """
    usable = usable_bytes(memory_gib)
    model_has_it = _has_checkpointing(config, settings)
    least: tuple[int, dict[str, Any]] | None = None
    for change in _changes(settings, model_has_it):
        memory = step_memory(config, **{**settings, **change})
        if memory.total <= usable:
            return f"it would fit with {_in_words(change)} ({memory.total / GIB:.2f} GiB)"
        if least is None or memory.total < least[0]:
            least = memory.total, change
        fixed = memory.weights + memory.adapters + memory.gradients + memory.optimizer
        is_narrow = "bfloat16" in (change.get("dtype"), settings["dtype"])
        if fixed > usable and is_narrow:
            break  # no batch is small enough
    total, change = least or (step_memory(config, **settings).total, {})
    enough = [name for name, gpu in GPUS.items() if usable_bytes(gpu.memory_gib) >= total]
    cards = f"of those in the table {', '.join(enough)}" if enough else "no one GPU of the table"
    with_change = f" with {_in_words(change)}" if change else ""
    return (
        f"no change of batch, length or dtype makes it fit: even{with_change} it takes "
        f"{total / GIB:.1f} GiB, for which {cards} {'have' if enough else 'has'} enough"
    )


def _has_checkpointing(config: PreTrainedConfig, settings: dict[str, Any]) -> bool:
    keys = ("method", "task", "r", "target_modules")
    kept = {key: settings[key] for key in keys if key in settings}
    return build_on_meta(config, **kept).supports_gradient_checkpointing
