"""A record: everything known of one finished run, as one JSON file that is never edited."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from allora_lab.config import RunConfig, config_from
from allora_lab.files import results_folder, written_whole


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One finished run.

    `metrics` has `eval_accuracy` (0 to 1) and `eval_loss` (nats); `trace` is what the loop
    returned; seconds are of training alone; `device` names the machine; `code_dirty` says whether
    the code differed from `code_commit`; `finished_at` is UTC; `tokens_per_second` counts the tokens of
    the sentences trained on, without padding (None: not measured); `processes` is how many shared
    the run, of which seconds, memory and device are the first one's; `label_names` names the classes.
    """

    run_id: str
    config: dict[str, Any]
    metrics: dict[str, float]
    trace: dict[str, Any]
    trainable_parameters: int
    train_seconds: float
    peak_memory_bytes: int
    model_revision: str
    dataset_revision: str
    code_commit: str | None
    code_dirty: bool | None
    packages: dict[str, str]
    device: str
    finished_at: str
    tokens_per_second: float | None = None
    processes: int = 1
    label_names: list[str] | None = None


NAMES = {field.name for field in fields(RunRecord)}
NEWER = {
    "tokens_per_second",
    "processes",
    "label_names",
}  # which records made before it was measured lack


@dataclass(frozen=True, kw_only=True)
class FailedRun:
    """A run that diverged or ran out of memory: what was tried, where, and the traceback.

    Kept apart in `results/<sweep>/failed/`, so that it reaches no table.
    """

    run_id: str
    config: dict[str, Any]
    error: str
    traceback: str
    code_commit: str | None
    code_dirty: bool | None
    packages: dict[str, str]
    device: str
    finished_at: str


def record_path(folder: str, config: RunConfig) -> Path:
    """Return where the record of a run stands: `results/<folder>/<run_id>.json`."""
    return results_folder() / folder / f"{config.run_id}.json"


def failure_path(folder: str, config: RunConfig) -> Path:
    """Return where a failed run is told of: `results/<folder>/failed/<run_id>.json`."""
    return results_folder() / folder / "failed" / f"{config.run_id}.json"


def find_record(folder: str, config: RunConfig) -> Path | None:
    """Return the record of a run, in its folder or in another sweep's, or None.

    A run is its settings: two sweeps that both ask for it share one record.  Records of another
    kind, such as `results/ripple`, which name their files by the fine-tune too, are passed over.
    """
    return next(iter(found_records(folder, [config])), None)


def found_records(folder: str, configs: Iterable[RunConfig]) -> list[Path]:
    """Return the records there are of some runs, in their order, each as `find_record`.

    Folders are listed once for all runs, not once a run.
    """
    own, by_name, found = results_folder() / folder, _by_name(results_folder()), []
    for config in configs:
        paths = by_name.get(f"{config.run_id}.json", [])
        mine = [path for path in paths if path.parent == own]
        others = (path for path in paths if _is_run_record(path, *stamp(path)))
        found += mine or [*others][:1]
    return found


def _by_name(results: Path) -> dict[str, list[Path]]:
    """Return the JSON files of every folder of records, by name, folders in alphabetical order."""
    found: dict[str, list[Path]] = {}
    if not results.is_dir():
        return found
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        for path in folder.glob("*.json"):
            found.setdefault(path.name, []).append(path)
    return found


def stamp(path: Path) -> tuple[int, int]:
    """Return what changes whenever a file is written anew: its number and its time of change."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def recorded(paths: Iterable[Path]) -> list[RunRecord]:
    """Return the records in some files, read once each while they stay as they are.

    Raises
    ------
    ValueError
        As `read_record`.
    """
    return [_read_once(path, *stamp(path)) for path in paths]


@cache
def _read_once(path: Path, _number: int, _changed_at: int) -> RunRecord:
    return read_record(path)


@cache
def _is_run_record(path: Path, _number: int, _changed_at: int) -> bool:
    return _has_the_names(json.loads(path.read_text()))


def _has_the_names(values: object) -> bool:
    return isinstance(values, dict) and NAMES - NEWER <= values.keys() <= NAMES


def write_record(path: Path, record: RunRecord | FailedRun) -> None:
    """Write a record, whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(
            json.dumps(asdict(record), separators=(",", ":"), allow_nan=False) + "\n"
        )


def read_record(path: Path) -> RunRecord:
    """Return the record in a file.

    Raises
    ------
    ValueError
        If the file is not JSON, lacks or adds a field, or its run_id is not its configuration's.
    """
    try:
        values = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}): delete it and run again") from None
    if not _has_the_names(values):
        raise ValueError(f"{path} is not a record of this version: delete it and run again")
    config = config_from(values["config"])
    if values["run_id"] != config.run_id:
        raise ValueError(
            f"{path} was edited, or made by another version: its settings give the run_id "
            f"{config.run_id}; delete it and run again"
        )
    return RunRecord(**values)
