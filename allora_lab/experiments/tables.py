"""Tables of recorded runs, in Markdown."""

from collections.abc import Sequence

from allora_lab.experiments.comparison import Row
from allora_lab.experiments.demo import FOLDER, demo_configs
from allora_lab.experiments.findings import EARLY, norm_at
from allora_lab.experiments.records import RunRecord, read_record, record_path
from allora_lab.experiments.statistics import Estimate, mean_interval
from allora_lab.experiments.sweep_tables import to_markdown
from allora_lab.methods import METHODS
from allora_lab.training.optimizers import OPTIMIZERS

SEEDS = range(5)


def _shown(values: Sequence[float]) -> str:
    return str(Estimate(*mean_interval(values)))


def _row(name: str, records: Sequence[RunRecord]) -> Row:
    last = records[0].trace["step"][-1]
    return {
        "run": name,
        f"1000 × row norm after {EARLY} steps": _shown([1000 * norm_at(r, EARLY) for r in records]),
        "1000 × row norm at the end": _shown([1000 * norm_at(r, last) for r in records]),
        "accuracy, %": _shown([100 * record.metrics["eval_accuracy"] for record in records]),
    }


def escape_table() -> str:
    """Return the demo's seven runs over five seeds: means and 95 % t-intervals.

    Raises
    ------
    FileNotFoundError
        If a run is not recorded: `allora-lab sweep sweeps/escape.toml` makes it.
    """
    rows = []
    for configs in zip(*(demo_configs(seed) for seed in SEEDS), strict=True):
        records = [read_record(record_path(FOLDER, config)) for config in configs]
        optimizer = OPTIMIZERS[configs[0].optimizer]
        name = f"{optimizer.label}, {METHODS[configs[0].method].label}, lr {configs[0].lr:g}"
        rows.append(_row(name, records))
    return to_markdown(rows)
