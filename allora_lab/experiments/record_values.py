"""What the JSON of a record may hold: names, types and ranges, checked once when a file is read."""

import json
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from allora_lab.checks import require_at_least, require_kind, require_type, shortened
from allora_lab.config import RunConfig, config_from
from allora_lab.training.trace import require_trace

REMEDY = "delete it and run again"
TYPES = {  # of the fields that are plain values
    "trainable_parameters": int,
    "train_seconds": float,
    "peak_memory_bytes": int,
    "processes": int,
    "tokens_per_second": float | None,
    "code_dirty": bool | None,
    **dict.fromkeys(("run_id", "model_revision", "dataset_revision"), str),
    **dict.fromkeys(("device", "finished_at"), str),
    "code_commit": str | None,
}
LEAST = {"trainable_parameters": 1, "processes": 1, "train_seconds": 0, "peak_memory_bytes": 0}


def _refused_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def json_values(
    path: Path, kind: str, names: Collection[str], newer: Collection[str] = ()
) -> dict[str, Any]:
    """Return the object in a JSON file that has these names; those of `newer` may be missing.

    Raises
    ------
    ValueError
        With the file's path, if it is not UTF-8, not JSON, or has other names.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refused_constant)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f"{path} is not JSON ({error}): {REMEDY}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} is not a record of a {kind}: {REMEDY}")  # noqa: TRY004
    missing = sorted(set(names) - set(newer) - values.keys())
    unknown = sorted(values.keys() - set(names))
    for name, word in [(n, "lacks") for n in missing] + [(n, "has") for n in unknown]:
        raise ValueError(
            f"{path} {word} {shortened(name)}, so it is not a record of this version: {REMEDY}"
        )
    return values


def checked_config(
    path: Path,
    values: Mapping[str, Any],
    read: Callable[[Mapping[str, Any]], Any] = config_from,
) -> Any:
    """Return the configuration of a record, read by `read`.

    Raises ValueError if it is malformed or gives another run_id than the record's.
    """
    try:
        require_kind("config", values["config"], dict, "a table of settings")
        config: RunConfig = read(values["config"])
    except ValueError as error:
        raise ValueError(f"{path} has a config that is refused ({error}): {REMEDY}") from None
    if values["run_id"] != config.run_id:
        raise ValueError(
            f"{path} was edited, or made by another version: its settings give the run_id "
            f"{config.run_id}; {REMEDY}"
        )
    return config


def require_values(path: Path, values: Mapping[str, Any], steps: int) -> None:
    """Raise ValueError, naming the file and the field, unless a run's values are possible ones.

    `steps` is how many the run's trace must have.
    """
    try:
        for name in TYPES.keys() & values.keys():
            require_type(name, values[name], TYPES[name])
        for name in LEAST.keys() & values.keys():
            require_at_least(name, values[name], LEAST[name])
        _require_time(values["finished_at"])
        _require_metrics(values["metrics"])
        require_trace(values["trace"], steps)
        require_kind("packages", values["packages"], dict, "a table of versions")
        for name, version in values["packages"].items():
            require_type(f"packages.{name}", version, str | None)
        names = values.get("label_names")
        if names is not None:
            require_kind("label_names", names, list, "a list of texts")
            for name in names:
                require_kind("each of label_names", name, str, "text")
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; {REMEDY}") from None


def _require_time(value: str) -> None:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(
            f"finished_at must be a date and time such as 2026-01-31T12:00:00, got {shortened(value)}"
        ) from None


def _require_metrics(metrics: object) -> None:
    """Raise ValueError unless every score is from 0 to 1, and every loss is 0 or more."""
    require_kind("metrics", metrics, dict, "a table of scores")
    if "eval_loss" not in metrics and "eval_accuracy" not in metrics:
        raise ValueError("metrics has neither eval_accuracy nor eval_loss")
    for name, value in metrics.items():
        require_type(f"metrics.{name}", value, float)
        require_at_least(f"metrics.{name}", value, 0)
        if not name.endswith("loss") and value > 1:
            raise ValueError(f"metrics.{name} must be from 0 to 1, got {shortened(value)}")
