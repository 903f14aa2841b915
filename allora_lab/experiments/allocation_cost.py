"""What a fine-tune costs when ranks move, beside LoRA's: `benchmarks/allocation.py` makes the record."""

import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from allora_lab.checks import require_known
from allora_lab.experiments.cost import LORA, CostRecord, beside_lora, read_cost_record
from allora_lab.experiments.evidence import Evidence
from allora_lab.files import results_folder

COMMAND = "python benchmarks/allocation.py --rounds 6 --json results/cost/allocation.json"
# Table 4 of 2403.16187: LLaMA-2-7B on E2E, gigabytes and hours
PAPER = {"LoRA": (17.6, 2.68), "SoRA": (18.8, 3.63), "ALoRA": (18.1, 3.81)}


def allocation_cost_path() -> Path:
    """Return where the record stands."""
    return results_folder() / "cost" / "allocation.json"


def _of_the_paper() -> str:
    memory, hours = PAPER["LoRA"]
    shares = [
        f"{name} {values[1] / hours:.2f} times LoRA's time and {values[0] / memory:.2f} times its memory"
        for name, values in PAPER.items()
        if name != "LoRA"
    ]
    return f"The paper's Table 4, LLaMA-2-7B on E2E: {' and '.join(shares)}."


def allocation_cost_content() -> dict[str, Any]:
    """Return how much longer a run is than LoRA's, and how much more memory it takes (Table 4).

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_cost_record`.
    """
    record = read_cost_record(allocation_cost_path(), COMMAND)
    setting = (
        f"A fine-tune of MiniLM, batches of {record.batch} sentences of at most {record.tokens} tokens, "
        f"r = {record.r} on six modules a block, AdamW, 64 steps with one round: every run in a process of its own, "
        f"{len(record.seconds[LORA])} rounds in which all take turns; the median of ratios with its "
        f"95 % interval over rounds; {record.device}. Memory is what the process gains while it trains."
    )
    content = beside_lora(record, "run", setting)
    return {**content, "sentences": [*content["sentences"], _of_the_paper()]}


CONTENDERS = {
    "LoRA": LORA,
    "ALoRA": "alora-ablation",
    "ALoRA by plain passes": "ALoRA, plain passes",
    "ALoRA-DNAS": "alora-dnas",
    "SoRA": "sora",
}  # names of the record, by how people call them
MEASURED_EVERY = 64  # steps of a measured run, in which ALoRA has one round
LORA_NAME = "LoRA"


def _record() -> CostRecord | None:
    if not allocation_cost_path().exists():
        return None
    return read_cost_record(allocation_cost_path(), COMMAND)


def run_time(ours: str, theirs: str, every: int = MEASURED_EVERY) -> Evidence | None:
    """Return ALoRA's processor time over a rival's, with one round in `every` steps.

    Measured with a round in MEASURED_EVERY steps.  For others it is projected, round by round: what
    ALoRA takes beyond LoRA is the cost of its round, and the time of all steps grows with `every`.
    """
    for name in (ours, theirs):
        require_known("contender", name, CONTENDERS)
    record = _record()
    if record is None:
        return None
    columns = (record.seconds[CONTENDERS[name]] for name in (ours, LORA_NAME, theirs))
    longer = every / MEASURED_EVERY
    ratios = [
        (lora * longer + (alora - lora)) / (rival * longer)
        for alora, lora, rival in zip(*columns, strict=True)
    ]
    projected = every != MEASURED_EVERY
    what = f"processor time of {ours} over {theirs}, one round in {every:,} steps{', projected' * projected}"
    return Evidence(what, tuple(ratios), units="rounds", kind="ratio", is_projected=projected)


def run_memory(ours: str, theirs: str) -> Evidence | None:
    """Return the peak memory of one contender's run over another's, which was measured once."""
    record = _record()
    if record is None:
        return None
    ratio = record.peak_bytes[CONTENDERS[ours]] / record.peak_bytes[CONTENDERS[theirs]]
    return Evidence(f"peak memory of a run of {ours} over one of {theirs}", (ratio,), units="run")


def break_even(ours: str, theirs: str, times: float) -> float:
    """Return after how many steps between rounds ALoRA takes `times` the time of a rival.

    Means over the rounds of the record: one round of scores costs what ALoRA's run takes beyond
    LoRA's.  Infinite where the rival's steps are no slower than LoRA's over `times`.

    Raises
    ------
    FileNotFoundError
        If no cost is recorded.
    """
    record = read_cost_record(allocation_cost_path(), COMMAND)
    alora, lora, rival = (
        fmean(record.seconds[CONTENDERS[name]]) for name in (ours, LORA_NAME, theirs)
    )
    spared = times * rival - lora
    return MEASURED_EVERY * (alora - lora) / spared if spared > 0 else math.inf


MEASURES: dict[str, Callable[..., Evidence | None]] = {
    "run-time": run_time,
    "run-memory": run_memory,
}
