"""What a Dask worker does: one run, from plain values to plain values.

Nothing of this package's classes travels, so a worker needs no results folder and shares no file
system; what it needs is this package, and its own ALLORA_LAB_DATA and ALLORA_LAB_CACHE.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch
from distributed import KilledWorker, get_worker

from allora_lab.config import RunConfig, config_from
from allora_lab.experiments.records import FailedRun, RunRecord
from allora_lab.experiments.sweep_run import run_or_failure


def work(values: Mapping[str, Any], device: str, threads: int | None) -> dict[str, Any]:
    """Make one run on a worker.

    Parameters
    ----------
    values
        The settings of the run, as `RunConfig.to_json` gives them.
    device
        Of the worker's: cpu, cuda, mps or auto.
    threads
        Torch's threads; None leaves them as the worker has them.

    Returns
    -------
    dict
        `worker`, its address; `status`: "recorded" (with `record`), "failed" (with `failure`),
        "refused" (with `reason`, a sentence: this worker cannot make the run, and another try would
        not either) or "stopped" (nobody waits for the run any more).
    """
    worker = get_worker()
    task = worker.state.tasks[worker.get_current_task()]
    told: dict[str, Any] = {"worker": worker.address}
    if worker.state.nthreads > 1:  # dropout masks come from the process's one random generator
        reason = f"it makes {worker.state.nthreads} runs at once; start it with --nthreads 1"
        return {**told, "status": "refused", "reason": reason}
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        outcome = run_or_failure(
            config_from(values), device=device, should_stop=lambda: task.state == "cancelled"
        )
    except (ValueError, OSError, ImportError) as error:
        return {**told, "status": "refused", "reason": str(error)}
    if outcome is None:
        return {**told, "status": "stopped"}
    if isinstance(outcome, FailedRun):
        return {**told, "status": "failed", "failure": asdict(outcome)}
    return {**told, "status": "recorded", "record": asdict(outcome)}


def outcome_of(config: RunConfig, told: Mapping[str, Any]) -> RunRecord | FailedRun | None:
    """Return the record or the failure that `work` told of; None for a run that was stopped.

    Raises
    ------
    ValueError
        When the worker refused, or its version of this package gives the run another name.
    """
    if told["status"] == "refused":
        raise ValueError(f"the worker {told['worker']} cannot make a run: {told['reason']}")
    if told["status"] == "stopped":
        return None
    is_recorded = told["status"] == "recorded"
    outcome = RunRecord(**told["record"]) if is_recorded else FailedRun(**told["failure"])
    if outcome.run_id != config.run_id:
        raise ValueError(
            f"the worker {told['worker']} names the run {config.run_id} {outcome.run_id}: install "
            "the same version of allora-lab there"
        )
    return outcome


def failure_of_killed(config: RunConfig, error: KilledWorker) -> FailedRun:
    """Return the failure of a run that took down every worker it was given to.

    The code and packages were the workers', who can no longer be asked: None and empty.
    """
    return FailedRun(
        run_id=config.run_id,
        config=config.to_json(),
        error=f"KilledWorker: {error.allowed_failures + 1} workers died while making this run",
        traceback=str(error),
        code_commit=None,
        code_dirty=None,
        packages={},
        device=f"the worker {error.last_worker.address}",
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
