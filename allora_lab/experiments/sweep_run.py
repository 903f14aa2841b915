"""Running what a sweep lacks: one run after another, each recorded the moment it ends."""

import traceback
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from allora_lab.config import RunConfig
from allora_lab.experiments import environment
from allora_lab.experiments.records import (
    FailedRun,
    RunRecord,
    failure_path,
    find_record,
    make_room,
    record_path,
    write_record,
)
from allora_lab.experiments.runner import run
from allora_lab.experiments.sweep import Sweep
from allora_lab.files import results_folder
from allora_lab.locks import claimed
from allora_lab.training.checkpoint import Progress

OnStep = Callable[[Progress], None]


def checkpoint_path(folder: str, config: RunConfig) -> Path:
    """Return where an unfinished run of a sweep is kept; no table and no commit sees it."""
    return results_folder() / folder / "unfinished" / f"{config.run_id}.safetensors"


def run_or_failure(
    config: RunConfig,
    *,
    device: str = "auto",
    checkpoint: Path | None = None,
    on_note: Callable[[str], None] = lambda _note: None,
    on_step: OnStep = lambda _progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunRecord | FailedRun | None:
    """Return the record of a run, or of its failure; None if it was stopped.

    A failure is the run's own: a loss that is not finite, memory that does not suffice, an error of
    torch's.  What would stop every run (a missing data set, a value refused) is raised.
    """
    try:
        return run(
            config,
            device=device,
            checkpoint=checkpoint,
            on_note=on_note,
            on_step=on_step,
            should_stop=should_stop,
        )
    except (ArithmeticError, MemoryError, RuntimeError) as error:
        commit, dirty = environment.code_version()
        return FailedRun(
            run_id=config.run_id,
            config=config.to_json(),
            error=f"{type(error).__name__}: {error}",
            traceback=traceback.format_exc(),
            code_commit=commit,
            code_dirty=dirty,
            packages=environment.package_versions(),
            device=environment.device_name(environment.resolve_device(device)),
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def keep(sweep_name: str, config: RunConfig, outcome: RunRecord | FailedRun) -> str:
    """Write a run's record, or its failure report; return "recorded" or "failed".

    A run that is recorded after all is no longer among the failed.  A damaged file in the record's
    place, or a record of data that changed since, is renamed and kept (see `make_room`).
    """
    if isinstance(outcome, FailedRun):
        write_record(failure_path(sweep_name, config), outcome)
        return "failed"
    make_room(record_path(sweep_name, config))
    write_record(record_path(sweep_name, config), outcome)
    failure_path(sweep_name, config).unlink(missing_ok=True)
    return "recorded"


def run_sweep(
    sweep: Sweep,
    *,
    device: str = "auto",
    part: int = 0,
    parts: int = 1,
    retry_failed: bool = False,
    on_run: Callable[[int, int, RunConfig], OnStep] = lambda _done, _total, _config: (
        lambda _progress: None
    ),
    on_note: Callable[[str], None] = lambda _note: None,
) -> Counter[str]:
    """Run what is missing, and return how many runs were "recorded", "failed" or made "elsewhere".

    `part` of `parts` takes every `parts`-th run, for several processes side by side.  `on_run` is
    called before each run and returns a callback that is invoked after every step.  A kill at any
    instant loses no finished run; the current run resumes from its last checkpoint to the same
    numbers.  A run that another process is making is left to it.
    """
    counts: Counter[str] = Counter()
    pending = sweep.pending(part, parts, retry_failed=retry_failed)
    for done, config in enumerate(pending):
        checkpoint = checkpoint_path(sweep.name, config)
        with claimed(checkpoint) as is_mine:
            if not is_mine or find_record(sweep.name, config):
                counts["elsewhere"] += 1
                continue
            outcome = run_or_failure(
                config,
                device=device,
                checkpoint=checkpoint,
                on_note=on_note,
                on_step=on_run(done, len(pending), config),
            )
            if outcome is not None:
                counts[keep(sweep.name, config, outcome)] += 1
                checkpoint.unlink(missing_ok=True)
    return counts
