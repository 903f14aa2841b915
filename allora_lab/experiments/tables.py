"""Tables of recorded runs, in Markdown."""

import math
from collections.abc import Sequence

from allora_lab.experiments.demo import FOLDER, demo_configs
from allora_lab.experiments.findings import EARLY, norm_at
from allora_lab.experiments.records import RunRecord, read_record, record_path
from allora_lab.experiments.statistics import mean_interval
from allora_lab.methods import METHODS
from allora_lab.training.optimizers import OPTIMIZERS

SEEDS = range(5)


def _cell(values: Sequence[float]) -> str:
    """Return mean ± half-width, to two digits of the half-width."""
    mean, half = mean_interval(values)
    digits = max(0, 1 - math.floor(math.log10(half))) if half else 3
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def _row(name: str, records: Sequence[RunRecord]) -> str:
    last = records[0].trace["step"][-1]
    cells = [
        _cell([1000 * norm_at(record, EARLY) for record in records]),
        _cell([1000 * norm_at(record, last) for record in records]),
        _cell([100 * record.metrics["eval_accuracy"] for record in records]),
    ]
    return f"| {name} | {' | '.join(cells)} |"


def escape_table() -> str:
    """Return the demo's seven runs over five seeds: means and 95 % t-intervals.

    Raises
    ------
    FileNotFoundError
        If a run is not recorded: `allora-lab sweep sweeps/escape.toml` makes it.
    """
    lines = [
        f"| run | 1000 × row norm after {EARLY} steps | 1000 × row norm at the end | accuracy, % |",
        "|---|---|---|---|",
    ]
    by_seed = [demo_configs(seed) for seed in SEEDS]
    for configs in zip(*by_seed, strict=True):
        records = [read_record(record_path(FOLDER, config)) for config in configs]
        optimizer = OPTIMIZERS[configs[0].optimizer]
        name = f"{optimizer.label}, {METHODS[configs[0].method].label}, lr {configs[0].lr:g}"
        lines.append(_row(name, records))
    return "\n".join(lines)
