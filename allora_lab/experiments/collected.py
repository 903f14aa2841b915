"""What is recorded of this repository's sweeps, as figures and sentences need it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from allora_lab.checks import require_known
from allora_lab.config import RunConfig
from allora_lab.experiments.comparison import ComparisonResult, compare
from allora_lab.experiments.records import RunRecord, found_records, recorded, stamp
from allora_lab.experiments.statistics import PairedResult, mean_interval
from allora_lab.experiments.sweep import Sweep, read_sweep
from allora_lab.files import REPOSITORY
from allora_lab.training.optimizers import OPTIMIZERS

DATASET_LABELS = {"rotten_tomatoes": "Rotten Tomatoes", "emotion": "Emotion", "yelp": "Yelp"}


@dataclass(frozen=True)
class Recorded:
    """A sweep of this repository and the records there are of it."""

    sweep: Sweep
    records: tuple[RunRecord, ...]

    def where(self, **settings: Any) -> list[RunRecord]:
        """Return the records whose configuration has these values, in the order of their seeds."""
        found = [r for r in self.records if all(r.config[k] == v for k, v in settings.items())]
        return sorted(found, key=lambda record: record.config["seed"])

    def comparison(self, name: str) -> ComparisonResult:
        """Return a comparison by its name in the sweep's file, on what is recorded.

        Raises
        ------
        ValueError
            If the file declares none of that name.
        """
        declared = {comparison.name: comparison for comparison in self.sweep.comparisons}
        require_known(f"comparison of sweeps/{self.sweep.name}.toml", name, declared)
        if name not in self._results:
            self._results[name] = compare(declared[name], self.sweep.configs, self.records)
        return self._results[name]

    @cached_property
    def _results(self) -> dict[str, ComparisonResult]:
        return {}

    @property
    def said(self) -> str:
        """Return how much is recorded, in words."""
        done, planned = len(self.records), len(self.sweep.configs)
        return f"{done} of {planned} runs are recorded"


def read_recorded(name: str) -> Recorded:
    """Return the sweep `sweeps/<name>.toml` with its records, of which there may be none.

    Raises
    ------
    ValueError
        If there is no such file.
    """
    path = REPOSITORY / "sweeps" / f"{name}.toml"
    if not path.exists():
        raise ValueError(f"there is no sweep {name!r}: add sweeps/{path.name}, or name another")
    sweep = read_sweep(path)
    files = tuple((found, *stamp(found)) for found in found_records(sweep.name, sweep.configs))
    return _read_once(path, path.read_text(), files)


@lru_cache(maxsize=64)
def _read_once(path: Path, _text: str, files: tuple[tuple[Path, int, int], ...]) -> Recorded:
    """Return a sweep with its records, read anew when its text or one of the files changes."""
    return Recorded(read_sweep(path), tuple(recorded(found for found, *_ in files)))


def collect(name: str) -> Recorded:
    """Return a sweep with its records, as `read_recorded`, for what cannot be shown without any.

    Raises
    ------
    FileNotFoundError
        If no run of it is recorded.
    """
    found = read_recorded(name)
    if not found.records:
        raise FileNotFoundError(
            f"no run of {name} is recorded: allora-lab sweep sweeps/{name}.toml makes the records"
        )
    return found


def setting_label(config: RunConfig) -> str:
    """Return data set, optimizer and η² of a setting, for people."""
    dataset = DATASET_LABELS.get(config.dataset, config.dataset)
    eta = "" if config.eta_squared is None else f", η² = {config.eta_squared:g}"
    return f"{dataset}, {OPTIMIZERS[config.optimizer].label}{eta}"


def accuracies(records: Sequence[RunRecord]) -> list[float]:
    """Return the accuracies of records, in percent."""
    return [100 * record.metrics["eval_accuracy"] for record in records]


def mean_and_half(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the mean and the half-width of its interval; None where there are too few values."""
    if len(values) > 1:
        return mean_interval(values)
    return (values[0], None) if values else (None, None)


def difference_row(
    label: str, result: PairedResult, *, group: str = "", emphasis: bool = False
) -> dict[str, Any]:
    """Return one row of a figure of differences (see `plots.forest`)."""
    has_width = result.effect_size is not None
    return {
        "label": label,
        "group": group,
        "mean": result.mean_difference,
        "low": result.low if has_width else None,
        "high": result.high if has_width else None,
        "emphasis": emphasis,
    }


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, in the singular where it is one."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def verdict(result: PairedResult) -> str:
    """Return what an interval says: "above", "below" or "not told apart from"."""
    if result.low > 0:
        return "above"
    return "below" if result.high < 0 else "not told apart from"


def interval_text(result: PairedResult) -> str:
    """Return a mean difference with its interval, in points."""
    return f"{result.mean_difference:+.1f} points [{result.low:+.1f}, {result.high:+.1f}]"
