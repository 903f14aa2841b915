"""A record: everything known of one finished run, as one JSON file that is never edited.

This is the one place where the records of fine-tunes are read, checked and written.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from allora_lab.config import RunConfig
from allora_lab.data.datasets import own_revision
from allora_lab.experiments.record_values import checked_config, json_values, require_values
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
NEWER = {"tokens_per_second", "processes", "label_names"}  # which older records lack


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


@dataclass(frozen=True)
class Found:
    """The records there are of some runs, and one sentence about each file that does not count."""

    records: dict[Path, RunRecord]
    problems: tuple[str, ...]

    @property
    def run_ids(self) -> set[str]:
        """Return the names of the runs that are recorded."""
        return {record.run_id for record in self.records.values()}


def record_path(folder: str, config: RunConfig) -> Path:
    """Return the path of a run's record: `results/<folder>/<run_id>.json`."""
    return results_folder() / folder / f"{config.run_id}.json"


def failure_path(folder: str, config: RunConfig) -> Path:
    """Return the path of a run's failure report: `results/<folder>/failed/<run_id>.json`."""
    return results_folder() / folder / "failed" / f"{config.run_id}.json"


def find_record(folder: str, config: RunConfig) -> Path | None:
    """Return the record of a run, in its folder or in another sweep's, or None.

    A run is its settings: two sweeps that both ask for it share one record.  Records of another
    kind, such as `results/ripple`, which name their files by the fine-tune too, are passed over.
    """
    return next(iter(found_records(folder, [config])), None)


def found_records(folder: str, configs: Iterable[RunConfig]) -> list[Path]:
    """Return the records there are of some runs, in their order, each as `find_record`."""
    return list(look_up(folder, configs).records)


def look_up(folder: str, configs: Iterable[RunConfig]) -> Found:
    """Return the records of some runs, in their order, and what is wrong with other files.

    A file that is damaged does not count as a record, and stops nothing.  Neither counts a record
    of a user's file whose content has changed since.  Problems are of the folder's own files; a
    damaged file of another folder is that folder's to report.
    """
    own, by_name = results_folder() / folder, _by_name(results_folder())
    records, problems = {}, []
    for config in configs:
        paths = by_name.get(f"{config.run_id}.json", [])
        for path in sorted(paths, key=lambda path: path.parent != own):
            try:
                record = _read_once(path, *stamp(path))
                _require_same_data(path, record)
            except (ValueError, OSError) as error:
                problems += [str(error)] if path.parent == own else []
            else:
                records[path] = record
                break
    return Found(records, tuple(problems))


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


def changed_data(record: RunRecord) -> bool:
    """Return whether a record is of a user's file that has other content now.

    A file that is no longer there cannot be compared, and its record counts.
    """
    return own_revision(record.config["dataset"]) not in (None, record.dataset_revision)


def _require_same_data(path: Path, record: RunRecord) -> None:
    if changed_data(record):
        raise ValueError(
            f"{record.config['dataset']} changed since {path} was recorded: put the old file back to "
            "use the record; otherwise the sweep makes the run anew and keeps the old record"
        )


def set_aside(path: Path, why: str) -> Path:
    """Rename a file to NAME.<why>.json, or NAME.<why>-2.json and so on, and return the new path.

    No record is ever lost: not one that is damaged, and not one that a newer run replaces.
    """
    number, to = 1, path.with_name(f"{path.stem}.{why}.json")
    while to.exists():
        number += 1
        to = path.with_name(f"{path.stem}.{why}-{number}.json")
    return path.rename(to)


def make_room(path: Path) -> Path | None:
    """Set aside what stands where a record is to be written; return its new path, or None."""
    if not path.exists():
        return None
    try:
        read_record(path)
    except ValueError:
        return set_aside(path, "damaged")
    return set_aside(path, "earlier")


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
        Naming the file, the field and the remedy, if the file is not JSON, lacks or adds a field,
        a value is of a wrong type or out of range, or its run_id is not its configuration's.
    """
    values = json_values(path, "run", NAMES, NEWER)
    config = checked_config(path, values)
    require_values(path, values, config.steps)
    return RunRecord(**values)
