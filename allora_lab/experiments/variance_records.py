"""The record of one run of the gradient-variance study, as one JSON file that is never edited."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from allora_lab.experiments.record_values import checked_config, json_values
from allora_lab.experiments.variance_config import VarianceConfig, variance_config_from
from allora_lab.files import results_folder, written_whole

FOLDER = "gradient-variance"


@dataclass(frozen=True, kw_only=True)
class VarianceRecord:
    """One finished run.

    `epochs` has one row a measured epoch (0 is before training) with `epoch`, `train_loss` (nats,
    mean over the epoch's batches with dropout; null before training), `test_accuracy`, and
    `spread`: from each batch size (as text) to what `summarise` returns, with `loss`, the loss on
    that batch without dropout.  `seconds` is of training and measuring; `dataset_source`,
    `dataset_revision` and `dataset_note` are of the images; the rest as in `RunRecord`.
    """

    run_id: str
    config: dict[str, Any]
    epochs: list[dict[str, Any]]
    seconds: float
    dataset_source: str
    dataset_revision: str
    dataset_note: str
    code_commit: str | None
    code_dirty: bool | None
    packages: dict[str, str]
    device: str
    finished_at: str

    def column(self, name: str, batch: int) -> list[float]:
        """Return one number of `spread` over the measured epochs."""
        return [row["spread"][str(batch)][name] for row in self.epochs]

    def histograms(self, batch: int) -> list[list[int]]:
        """Return the histogram of every measured epoch; see LOG10_EDGES for its bins."""
        return [row["spread"][str(batch)]["histogram"] for row in self.epochs]


def variance_record_path(config: VarianceConfig) -> Path:
    """Return where the record of a run stands: `results/gradient-variance/<run_id>.json`."""
    return results_folder() / FOLDER / f"{config.run_id}.json"


def write_variance_record(path: Path, record: VarianceRecord) -> None:
    """Write a record, whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(json.dumps(asdict(record), separators=(",", ":")) + "\n")


def read_variance_record(path: Path) -> VarianceRecord:
    """Return the record in a file.

    Raises
    ------
    ValueError
        If the file is not JSON, lacks or adds a field, its run_id is not its configuration's, or
        an epoch or a batch size is missing.
    """
    names = {field.name for field in fields(VarianceRecord)}
    values = json_values(path, "run of the gradient's spread", names)
    config = checked_config(path, values, variance_config_from)
    try:
        measured = [row["epoch"] for row in values["epochs"]]
        is_whole = all(
            set(row["spread"]) == {str(b) for b in config.batches} for row in values["epochs"]
        )
    except (TypeError, KeyError):
        measured, is_whole = [], False
    if measured != list(range(config.epochs + 1)) or not is_whole:
        raise ValueError(f"{path} lacks an epoch or a batch size: delete it and run again")
    return VarianceRecord(**values)
