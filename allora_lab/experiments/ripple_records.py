"""Records of the ripple effect in a real model: one JSON file a seed, never edited."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from allora_lab.config import RunConfig
from allora_lab.experiments.demo import escape_config
from allora_lab.experiments.record_values import checked_config, json_values
from allora_lab.files import results_folder, written_whole

FOLDER = "ripple"
SEEDS = (0, 1, 2, 3, 4)
SCALINGS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, kw_only=True)
class RippleRecord:
    """One fine-tuned model under every scaling.

    Attributes
    ----------
    config
        The settings of the fine-tune, as `RunConfig.to_json` gives them.
    adapters
        For each adapted matrix, in order of depth: the operator norms `weight_norm` ||W|| and
        `adapter_norm` ||BA||, the Frobenius norms `weight_frobenius` and `adapter_frobenius`, and,
        over the tokens at s = 1, the means of `used_ratio` ||BA z|| / ||W z|| and of `cosine`, the
        cosine of BA z with W z, where z is what reaches the matrix.
    scaled
        For each scaling: `growth` ||h_s|| / ||h_0|| and `change` ||h_s - h_0|| / ||h_0||, each with
        `mean` (one value a depth, 0 = embeddings) and `quantiles` (a list a depth, at QUANTILES),
        over tokens; `accuracy` (0 to 1) and `loss` (nats).
    tokens, sentences
        How many were measured, padding left out.
    seconds
        Of the fine-tune and the measurement together.
    code_dirty
        Whether the code differed from `code_commit`.
    """

    run_id: str
    config: dict[str, Any]
    adapters: dict[str, dict[str, float]]
    scaled: list[dict[str, Any]]
    tokens: int
    sentences: int
    seconds: float
    model_revision: str
    dataset_revision: str
    code_commit: str | None
    code_dirty: bool | None
    packages: dict[str, str]
    device: str
    finished_at: str


def ripple_config(seed: int, **settings: Any) -> RunConfig:
    """Return the fine-tune of a seed: LoRA, r = 8 on query and value, AdamW, as the escape runs."""
    return escape_config("adamw", method="lora", seed=seed, **settings)


def ripple_path(config: RunConfig) -> Path:
    """Return where the record of a fine-tune stands: `results/ripple/<run_id>.json`."""
    return results_folder() / FOLDER / f"{config.run_id}.json"


def write_ripple(record: RippleRecord, path: Path) -> None:
    """Write a record, whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(json.dumps(asdict(record), separators=(",", ":")) + "\n")


def read_ripple(path: Path) -> RippleRecord:
    """Return the record in a file.

    Raises
    ------
    ValueError
        If the file is not JSON, lacks or adds a field, its run_id is not its configuration's, or
        its lists do not fit each other.
    """
    values = json_values(path, "ripple", {field.name for field in fields(RippleRecord)})
    checked_config(path, values)
    record = RippleRecord(**values)
    _require_fitting(path, record)
    return record


def _require_fitting(path: Path, record: RippleRecord) -> None:
    """Raise ValueError unless every scaling has a row, and every row the same depths."""
    depths = {
        len(row[quantity][part])
        for row in record.scaled
        for quantity in ("growth", "change")
        for part in ("mean", "quantiles")
    }
    if tuple(row["scaling"] for row in record.scaled) != SCALINGS or len(depths) != 1:
        raise ValueError(f"{path} lacks a scaling or a depth: delete it and record again")


def recorded_ripples() -> list[RippleRecord]:
    """Return the records of SEEDS that exist, by seed."""
    paths = [ripple_path(ripple_config(seed)) for seed in SEEDS]
    return [read_ripple(path) for path in paths if path.exists()]
