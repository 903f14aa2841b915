"""What a step costs, in time and in memory, beside one of LoRA: `benchmarks/step.py` makes the record."""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from allora_lab.checks import require_known
from allora_lab.experiments.evidence import Evidence
from allora_lab.experiments.statistics import median_interval
from allora_lab.files import results_folder
from allora_lab.methods import METHODS

COMMAND = "python benchmarks/step.py --rounds 30 --json results/cost/step.json"
LORA = "lora"


@dataclass(frozen=True, kw_only=True)
class CostRecord:
    """What one run of a benchmark measured.

    `seconds` of the processor for a step (or a whole run), one a round, and `peak_bytes`, the most
    memory in use at once in it, are by contender: a method's key, or a name of PEFT's.  In a round each takes one.  A step
    has `batch` sentences of `tokens` tokens; all `target_modules` have adapters of rank `r`.
    """

    seconds: dict[str, list[float]]
    peak_bytes: dict[str, float]
    r: int
    batch: int
    tokens: int
    target_modules: list[str]
    code_commit: str | None
    code_dirty: bool | None
    packages: dict[str, str]
    device: str
    finished_at: str


def cost_path() -> Path:
    """Return where the record stands."""
    return results_folder() / "cost" / "step.json"


def read_cost_record(path: Path, command: str = COMMAND) -> CostRecord:
    """Return the record in a file, which `command` makes.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is no such record, or its contenders have not all as many rounds, and a peak.
    """
    if not path.exists():
        raise FileNotFoundError(f"no cost is recorded: {command} makes the record")
    try:
        values = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}): delete it and measure again") from None
    names = {field.name for field in fields(CostRecord)}
    if not isinstance(values, dict) or values.keys() != names:
        raise ValueError(f"{path} is not a record of this version: delete it and measure again")
    record = CostRecord(**values)
    rounds = {len(seconds) for seconds in record.seconds.values()}
    if len(rounds) != 1 or record.seconds.keys() != record.peak_bytes.keys():
        raise ValueError(f"{path} does not have every contender in every round: measure again")
    if LORA not in record.seconds:
        raise ValueError(f"{path} has no {LORA!r} to compare with: measure again")
    return record


def time_ratio(record: CostRecord, name: str) -> tuple[float, float, float]:
    """Return the median over rounds of a step's time over LoRA's in that round, and its interval."""
    return median_interval(_ratios(record, name))


def _ratios(record: CostRecord, name: str) -> list[float]:
    pairs = zip(record.seconds[name], record.seconds[LORA], strict=True)
    return [ours / lora for ours, lora in pairs]


def memory_ratio(record: CostRecord, name: str) -> float:
    """Return a step's peak memory over LoRA's."""
    return record.peak_bytes[name] / record.peak_bytes[LORA]


def _label(name: str) -> str:
    return METHODS[name].label if name in METHODS else name


def _others(record: CostRecord) -> list[str]:
    return [name for name in record.seconds if name != LORA]


def _row(name: str, *ratios: float | None) -> dict[str, Any]:
    """Return a row of a figure: how much more than LoRA's, in percent, and the interval's ends."""
    percent = [None if ratio is None else 100 * (ratio - 1) for ratio in ratios]
    ends = dict(zip(("mean", "low", "high"), percent, strict=True))
    return {"label": _label(name), **ends, "group": "", "emphasis": False}


def _sentence(record: CostRecord, name: str, of: str) -> str:
    median, low, high = time_ratio(record, name)
    mebibytes = (record.peak_bytes[name] - record.peak_bytes[LORA]) / 2**20
    return (
        f"{_label(name)}: a {of} takes {median:.3f} [{low:.3f}, {high:.3f}] times the processor "
        f"time of one of LoRA, and at its peak {memory_ratio(record, name):.3f} times the memory ({mebibytes:+.2f} "
        "MiB)."
    )


def beside_lora(record: CostRecord, of: str, setting: str) -> dict[str, Any]:
    """Return panels and sentences of what a step or a run (`of`) costs beside one of LoRA."""
    others = _others(record)
    return {
        "panels": [
            {
                "title": f"Processor time of a {of}",
                "x_label": "more than LoRA's, %",
                "rows": [_row(name, *time_ratio(record, name)) for name in others],
            },
            {
                "title": f"Peak memory of a {of}",
                "x_label": "more than LoRA's, %",
                "rows": [_row(name, memory_ratio(record, name), None, None) for name in others],
            },
        ],
        "sentences": [setting, *(_sentence(record, name, of) for name in others)],
    }


def cost_content() -> dict[str, Any]:
    """Return how much longer a step is than LoRA's, and how much more memory it takes.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_cost_record`.
    """
    record = read_cost_record(cost_path())
    setting = (
        f"A step of MiniLM, {record.batch} x {record.tokens} tokens, r = {record.r} on all linear "
        f"layers, AdamW: the median of {len(record.seconds[LORA])} rounds in which all take turns, "
        f"with its 95 % interval over rounds; {record.device}."
    )
    return beside_lora(record, "step", setting)


def step_cost(method: str, quantity: str) -> Evidence | None:
    """Return the processor time of a step, or its peak memory, over that of a step of LoRA.

    The peak is torch's own account of every allocation, which repeats to the byte: a count.
    """
    require_known("cost of a step", quantity, ("time", "memory"))
    if not cost_path().exists():
        return None
    record = read_cost_record(cost_path())
    if quantity == "memory":
        what = f"peak memory of a step of {_label(method)} over one of LoRA"
        return Evidence(what, (memory_ratio(record, method),), units="exact count", kind="count")
    what = f"processor time of a step of {_label(method)} over one of LoRA, median"
    return Evidence(what, tuple(_ratios(record, method)), units="rounds", kind="median")


MEASURES: dict[str, Callable[..., Evidence | None]] = {"step-cost": step_cost}
