"""The runs of `sweeps/allocation.toml` as a learner sets them: score, budget and ranks moved."""

from functools import cache
from pathlib import Path
from typing import Any

from allora_lab.config import RunConfig, config_from
from allora_lab.experiments.records import RunRecord, find_record, found_records, recorded
from allora_lab.experiments.sweep import read_sweep, read_toml
from allora_lab.files import REPOSITORY
from allora_lab.methods import get_method
from allora_lab.settings import HOOK_SETTINGS

SWEEP = "allocation"
ROUNDS = 4
MODULES = 36  # six in each of MiniLM's six blocks


@cache
def base_settings() -> dict[str, Any]:
    """Return what every run of the sweep shares."""
    return read_toml(sweep_file())["base"]


def sweep_file() -> Path:
    """Return where the sweep's file stands."""
    return REPOSITORY / "sweeps" / f"{SWEEP}.toml"


@cache
def planned_runs() -> tuple[RunConfig, ...]:
    """Return the runs of the sweep."""
    return read_sweep(sweep_file()).configs


def allocation_config(
    method: str, r: int, ranks_moved: int | None = None, seed: int = 0, **changes: Any
) -> RunConfig:
    """Return a run: r ranks a module at the start; what the method does not read is left out."""
    unread = set(HOOK_SETTINGS) - set(get_method(method).hook_settings)
    moving = {"ranks_moved": ranks_moved, "rounds": ROUNDS, **changes}
    settings = {**base_settings(), "method": method, "r": r, "seed": seed, **moving}
    return config_from({k: v for k, v in settings.items() if k not in unread})


def recorded_run(config: RunConfig) -> RunRecord | None:
    """Return the record of a run, or None."""
    path = find_record(SWEEP, config)
    return None if path is None else recorded([path])[0]


def accuracies_by_budget(method: str, ranks_moved: int | None) -> dict[int, list[float]]:
    """Return the test accuracies in percent of a method's recorded seeds, by ranks in all."""
    data, found = base_settings()["dataset"], {}
    same = [c for c in planned_runs() if (c.method, c.dataset) == (method, data)]
    wanted = [config for config in same if config.ranks_moved == ranks_moved]
    for record in recorded(found_records(SWEEP, wanted)):
        accuracy = 100 * record.metrics["eval_accuracy"]
        found.setdefault(MODULES * record.config["r"], []).append(accuracy)
    return dict(sorted(found.items()))
