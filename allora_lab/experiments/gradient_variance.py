"""The gradient's spread over dropout masks while a network trains: the numbers of Figure 1.

python -m allora_lab.experiments.gradient_variance          # record what is missing
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from allora_lab.data.images import IMAGE_SETS, ImageDataset, load_images
from allora_lab.experiments.variance_config import (
    DATASETS,
    VarianceConfig,
    main_configs,
    sweep_configs,
)
from allora_lab.experiments.variance_findings import change_between, sentences_of
from allora_lab.experiments.variance_progress import VarianceProgress
from allora_lab.experiments.variance_records import (
    VarianceRecord,
    read_variance_record,
    variance_record_path,
    write_variance_record,
)
from allora_lab.experiments.variance_runs import run_variance
from allora_lab.experiments.variance_summary import QUANTILE_NAMES

COMMAND = "python -m allora_lab.experiments.gradient_variance"
CURVES = (*QUANTILE_NAMES, "mean", "max", "gradient_norm", "signal_to_noise", "loss")
FOLLOWED = ("mean", "max", "gradient_norm")  # drawn as factors since the start
OnRun = Callable[[int, int, VarianceConfig], Callable[[VarianceProgress], None]]


def no_report(
    _index: int, _total: int, _config: VarianceConfig
) -> Callable[[VarianceProgress], None]:
    """Report nothing of a run."""
    return lambda _progress: None


def pending(configs: Sequence[VarianceConfig]) -> list[VarianceConfig]:
    """Return the runs that have no record yet."""
    return [config for config in configs if not variance_record_path(config).exists()]


def recorded_configs() -> list[VarianceConfig]:
    """Return the figure's runs that have a record, of image sets with two recorded seeds or more."""
    here = [config for config in main_configs() if variance_record_path(config).exists()]
    seeds = Counter(config.dataset for config in here)
    return [config for config in here if seeds[config.dataset] > 1]


def record_all(
    configs: Sequence[VarianceConfig] | None = None,
    *,
    device: str = "cpu",
    on_run: OnRun = no_report,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:
    """Run what has no record and write the records; return how many were written.

    `configs` is the runs of the figure and then those of the panel if None.  Each record is written
    whole when its run ends; a stopped run leaves none, and the runs before it stay.
    """
    missing = pending([*main_configs(), *sweep_configs()] if configs is None else configs)
    sets: dict[str, ImageDataset] = {}
    for index, config in enumerate(missing):
        if config.dataset not in sets:
            sets[config.dataset] = load_images(config.dataset)
        record = run_variance(
            config,
            device=device,
            data=sets[config.dataset],
            on_progress=on_run(index, len(missing), config),
            should_stop=should_stop,
        )
        if record is None:
            return index
        write_variance_record(variance_record_path(config), record)
    return len(missing)


def records_of(
    configs: Sequence[VarianceConfig], *, fresh: bool, device: str, on_run: OnRun
) -> list[VarianceRecord]:
    """Return each run's record, read if there is one and `fresh` is false, else made now.

    What is made here is not written: `record_all` does that.
    """
    records = []
    for index, config in enumerate(configs):
        path = variance_record_path(config)
        if path.exists() and not fresh:
            records.append(read_variance_record(path))
        else:
            on_progress = on_run(index, len(configs), config)
            records.append(run_variance(config, device=device, on_progress=on_progress))
    return records


def _of_dataset(records: Sequence[VarianceRecord], batch: int) -> dict[str, Any]:
    """Return the curves of one image set, means over its seeds, and the changes since the start."""
    config = records[0].config
    key, epochs = config["dataset"], list(range(config["epochs"] + 1))

    def mean_over_seeds(name: str) -> list[float]:
        return np.mean([record.column(name, batch) for record in records], axis=0).tolist()

    changes = {
        name: [asdict(change_between(records, name, batch, 0, epoch)) for epoch in epochs[1:]]
        for name in FOLLOWED
    }
    accuracies = [[row["test_accuracy"] for row in record.epochs] for record in records]
    return {
        "dataset": key,
        "label": IMAGE_SETS[key].label,
        "note": records[0].dataset_note,
        "source": records[0].dataset_source,
        "seeds": [record.config["seed"] for record in records],
        "config": {name: value for name, value in config.items() if name != "seed"},
        "epochs": epochs,
        "curves": {name: mean_over_seeds(name) for name in CURVES},
        "test_accuracy": np.mean(accuracies, axis=0).tolist(),
        "changes_since_start": changes,
        "sentences": sentences_of(IMAGE_SETS[key].label, records, batch),
        "runs": [
            {name: getattr(record, name) for name in ("run_id", "code_commit", "device", "seconds")}
            for record in records
        ],
    }


def gradient_variance_content(
    configs: Sequence[VarianceConfig] | None = None,
    *,
    device: str = "cpu",
    fresh: bool = False,
    on_run: OnRun = no_report,
) -> dict[str, Any]:
    """Return what `gradient-variance.json` holds: one entry an image set, and the sentences.

    Parameters
    ----------
    configs
        The runs, at least two seeds an image set; those of the figure if None.
    device, on_run
        Of runs that have to be made; see `run_variance`.
    fresh
        Whether to make anew what is recorded (about half an hour).

    Raises ValueError without a run, or with one seed only of an image set.
    """
    configs = main_configs() if configs is None else configs
    if not configs:
        raise ValueError(f"no run is named or recorded: record them with `{COMMAND}`")
    records = records_of(configs, fresh=fresh, device=device, on_run=on_run)
    batch = records[0].config["batches"][0]
    keys = [key for key in DATASETS if any(r.config["dataset"] == key for r in records)]
    datasets = [
        _of_dataset([r for r in records if r.config["dataset"] == key], batch) for key in keys
    ]
    return {
        "batch": batch,
        "datasets": datasets,
        "sentences": [sentence for row in datasets for sentence in row["sentences"]],
    }


def run_bar(index: int, total: int, config: VarianceConfig) -> Callable[[VarianceProgress], None]:
    """Return what shows the progress of one run, with the time left."""
    title = f"{index + 1}/{total} {config.dataset}, width {config.width}, drop {config.dropout:g}"
    shape = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} gone{postfix}"
    bar = tqdm(total=1.0, desc=f"{title}, seed {config.seed}", bar_format=shape)

    def show(progress: VarianceProgress) -> None:
        bar.n = progress.share
        bar.set_postfix_str(f"{progress.seconds_left:.0f} s left", refresh=False)
        bar.update(0)
        if progress.share >= 1 and len(progress.epochs) == config.epochs + 1:
            bar.close()

    return show


def main(arguments: Sequence[str] | None = None) -> None:
    """Record what is missing: the runs of the figure, and unless --figure-only those of the panel."""
    parser = argparse.ArgumentParser(prog=COMMAND)
    parser.add_argument("--figure-only", action="store_true", help="leave out the panel's runs")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or auto")
    options = parser.parse_args(arguments)
    configs = main_configs() + ([] if options.figure_only else sweep_configs())
    try:
        written = record_all(configs, device=options.device, on_run=run_bar)
    except KeyboardInterrupt:
        raise SystemExit(
            "stopped; the same command goes on with the runs that are missing"
        ) from None
    except (ValueError, OSError, ArithmeticError) as error:
        raise SystemExit(str(error)) from None
    print(f"{written} runs recorded now, {len(pending(configs))} of {len(configs)} missing")


if __name__ == "__main__":
    main()
