"""The demo: LoRA and ALLoRA under SGD and AdamW, and what their norms do, said from the numbers."""

from collections.abc import Callable, Sequence
from typing import Any

from allora_lab.config import RunConfig, scaled_rate
from allora_lab.experiments.findings import sentences
from allora_lab.experiments.records import RunRecord, read_record, record_path
from allora_lab.experiments.runner import run
from allora_lab.training.optimizers import OPTIMIZERS

ETA_SQUARED = 4.0
FOLDER = "escape"

# Rates are the optimizers' defaults.  SGD needs more steps before B is large enough to matter, and
# clipping, for without it LoRA at 2 x lr leaves the region where it learns (step 110 or so).
SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {"steps": 128, "clip_norm": 0.5},
    "adamw": {"steps": 96},
}


def escape_config(optimizer: str, **settings: Any) -> RunConfig:
    """Return a run of the escape experiment: the optimizer's steps and clipping, and `settings`."""
    return RunConfig(optimizer=optimizer, **{**SETTINGS[optimizer], **settings})


def demo_configs(seed: int = 0) -> list[RunConfig]:
    """Return the seven runs: LoRA at lr, at η x lr and ALLoRA at lr; AdamW also `allora-update`."""
    configs = []
    for optimizer in ("sgd", "adamw"):
        lr = OPTIMIZERS[optimizer].default_lr
        rows = [("lora", lr), ("lora", scaled_rate(lr, ETA_SQUARED)), ("allora", lr)]
        if OPTIMIZERS[optimizer].is_scale_free:
            rows.append(("allora-update", lr))
        configs += [
            escape_config(method=method, optimizer=optimizer, lr=rate, seed=seed)
            for method, rate in rows
        ]
    return configs


def run_demo(
    *,
    device: str = "auto",
    reuse_records: bool = False,
    on_run: Callable[[int, int, RunConfig], Callable] = lambda _i, _n, _c: lambda _p: None,
) -> list[RunRecord]:
    """Train the seven runs and return their records.

    With `reuse_records`, a run that stands in `results/escape` is read instead of trained.
    `on_run` is told which run starts and gives what is called after each of its steps.
    """
    records, configs = [], demo_configs()
    for index, config in enumerate(configs):
        path = record_path(FOLDER, config)
        if reuse_records and path.exists():
            records.append(read_record(path))
            continue
        record = run(config, device=device, on_step=on_run(index, len(configs), config))
        records.append(record)
    return records


def summary_row(record: RunRecord) -> dict[str, Any]:
    """Return what `escape.json` keeps of a run; norms are means over all rows of all layers."""
    config = record.config
    return {
        "run_id": record.run_id,
        "method": config["method"],
        "optimizer": config["optimizer"],
        "lr": config["lr"],
        "eta_squared": config["eta_squared"],
        "steps": record.trace["step"],
        "row_norm_mean": record.trace["row_norm_mean"],
        "eval_accuracy": record.metrics["eval_accuracy"],
        "train_seconds": record.train_seconds,
        "seed": config["seed"],
        "device": record.device,
        "code_commit": record.code_commit,
        "finished_at": record.finished_at,
    }


def demo_sentences(records: Sequence[RunRecord]) -> list[str]:
    """Return the three sentences that say what the seven runs showed."""
    lrs = {key: OPTIMIZERS[key].default_lr for key in ("sgd", "adamw")}
    return sentences(records, lrs, ETA_SQUARED)


def demo_summary(records: Sequence[RunRecord]) -> dict[str, Any]:
    """Return the content of `escape.json`: one row a run, and the three sentences."""
    return {
        "runs": [summary_row(record) for record in records],
        "sentences": demo_sentences(records),
    }
