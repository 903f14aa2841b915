"""A checkpoint: one safetensors file whose header carries the rest as JSON.

Weights of the trainable tensors, the optimizer's state, the method's own, how many steps are done
and the trace so far.  Step t of the loop depends on these and on (seed, t) alone, so no random state
is saved.  One file, written whole: a kill at any instant leaves the old checkpoint or the new one.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from allora_lab.adapters.inject import adapter_state_dict, load_adapter_state_dict
from allora_lab.allocation.hook import TrainingHook
from allora_lab.checks import shortened
from allora_lab.files import written_whole
from allora_lab.training.trace import require_trace


@dataclass(frozen=True)
class Progress:
    """Where a run stands: optimizer steps done and everything traced so far."""

    done: int
    trace: dict[str, Any]


def _split_state(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Part an optimizer's `state_dict` into tensors by flat name and the rest, fit for JSON."""
    tensors, scalars = {}, {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value.contiguous()
            else:
                scalars[f"{index}.{key}"] = value
    rest = {k: v for k, v in state.items() if k != "state"}
    return tensors, {**rest, "scalars": scalars}


def _join_state(tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `_split_state`."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        _, index, key = name.split(".", 2)
        state.setdefault(int(index), {})[key] = value
    for name, value in rest["scalars"].items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    return {**{k: v for k, v in rest.items() if k != "scalars"}, "state": state}


def _digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a checkpoint's header and of its tensors' bytes, by name."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(
    path: Path,
    run_id: str,
    model: nn.Module,
    optimizer: Optimizer,
    progress: Progress,
    hook: TrainingHook,
    on_note: Callable[[str], None] | None = None,
) -> None:
    """Write the checkpoint of a run, whole or not at all.

    With `on_note` a run can go on without it: that it cannot be written is told, and not raised.

    Raises
    ------
    OSError
        With one sentence, when the disk is full or the folder cannot be written.
    """
    tensors, rest = _split_state(optimizer.state_dict())
    weights = {f"model.{n}": t.contiguous() for n, t in adapter_state_dict(model).items()}
    hook_values, hook_tensors = hook.state()
    weights |= {f"hook.{n}": t.detach().contiguous() for n, t in hook_tensors.items()}
    header = {
        "run_id": run_id,
        "done": progress.done,
        "trace": progress.trace,
        "optimizer": rest,
        "hook": hook_values,
    }
    text, every = json.dumps(header), {**weights, **tensors}
    content = save(every, {"allora_lab": text, "sha256": _digest(text, every)})
    try:
        with written_whole(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        if on_note is None:
            raise
        on_note(f"{error}; the run goes on without this checkpoint")


def _require_same_data(path: Path, found: str, wanted: str) -> None:
    """Raise ValueError if two runs "NAME of MODEL on DATA" differ in their data or model alone."""
    for what, separator in (("data", " on "), ("model's weights", " of ")):
        run, _, digest = found.rpartition(separator)
        wanted_run, _, wanted_digest = wanted.rpartition(separator)
        if run and run == wanted_run and digest != wanted_digest:
            raise ValueError(
                f"the {what} changed since {path} was written: put the old files back, or delete this "
                "checkpoint to start the run anew"
            )
        found, wanted = run, wanted_run


def _header(path: Path, text: str, steps: int | None) -> dict[str, Any]:
    """Return what a checkpoint's header says; ValueError unless it is of the form that we write."""
    kinds = {"run_id": str, "done": int, "trace": dict, "optimizer": dict}
    try:
        header = json.loads(text)
        for key, kind in kinds.items():
            if not isinstance(header, dict) or type(header.get(key)) is not kind:
                raise ValueError(f"{key} is missing or of another type")
        if not 0 <= header["done"] <= (header["done"] if steps is None else steps):
            raise ValueError(f"done is {shortened(header['done'])} of {steps} steps")
        require_trace(header["trace"], header["done"])
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged or was altered ({error}): delete it and start the run anew"
        ) from None
    return header


def load_checkpoint(
    path: Path,
    *,
    run_id: str,
    model: nn.Module,
    optimizer: Optimizer,
    hook: TrainingHook,
    steps: int | None = None,
) -> Progress | None:
    """Restore a run from `path` and return where it stands, or None when there is no file.

    Raises
    ------
    ValueError
        If the file is damaged, is no checkpoint of this lab, or belongs to another run.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and start the run anew") from None
    if "allora_lab" not in metadata:
        raise ValueError(f"{path} is not a checkpoint of allora_lab: name another file")
    if metadata.get("sha256") != _digest(metadata["allora_lab"], tensors):
        raise ValueError(f"{path} is damaged or was altered: delete it and start the run anew")
    header = _header(path, metadata["allora_lab"], steps)
    _require_same_data(path, header["run_id"], run_id)
    if header["run_id"] != run_id:
        raise ValueError(
            f"{path} belongs to the run {header['run_id']}, not {run_id}: name another file or "
            "delete this one"
        )
    hook_tensors = {n.removeprefix("hook."): t for n, t in tensors.items() if n.startswith("hook.")}
    hook.restore(header.get("hook", {}), hook_tensors)  # first, for it sets the tensors' shapes
    weights = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    state = {n: t for n, t in tensors.items() if n.startswith("optimizer.")}
    load_adapter_state_dict(model, weights)
    optimizer.load_state_dict(_join_state(state, header["optimizer"]))
    return Progress(done=header["done"], trace=header["trace"])
