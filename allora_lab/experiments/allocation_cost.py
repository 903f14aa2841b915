"""What a fine-tune costs when ranks move, beside LoRA's: `benchmarks/allocation.py` makes the record."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from allora_lab.experiments.claim_rules import Evidence
from allora_lab.experiments.cost import LORA, beside_lora, read_cost_record
from allora_lab.experiments.statistics import median_interval
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


def _over(ours: str, theirs: str, *, of_memory: bool) -> Evidence | None:
    """Return the processor time, or the peak memory, of one contender's run over another's."""
    if not allocation_cost_path().exists():
        return None
    record = read_cost_record(allocation_cost_path(), COMMAND)
    (first, a), (second, b) = ((CONTENDERS[key], key) for key in (ours, theirs))
    if of_memory:
        ratio = record.peak_bytes[first] / record.peak_bytes[second]
        what = f"peak memory of a run of {a} over one of {b}"
        return Evidence(what, 1, ratio, ratio, ratio, units="run")
    pairs = zip(record.seconds[first], record.seconds[second], strict=True)
    what = f"processor time of a run of {a} over one of {b}, median"
    found = median_interval([x / y for x, y in pairs])
    return Evidence(what, len(record.seconds[first]), *found, units="rounds")


CONTENDERS = {
    "LoRA": LORA,
    "ALoRA": "alora-ablation",
    "ALoRA by plain passes": "ALoRA, plain passes",
    "ALoRA-DNAS": "alora-dnas",
    "SoRA": "sora",
}  # names of the record, by how people call them
ALLOCATION_COST_EVIDENCE: dict[str, Callable[[], Evidence | None]] = {
    f"run-{quantity}-{short}-over-{other.lower()}": partial(_over, ours, other, of_memory=of_memory)
    for quantity, of_memory in (("time", False), ("memory", True))
    for short, ours in (("replay", "ALoRA"), ("plain", "ALoRA by plain passes"))
    for other in ("LoRA", "SoRA", "ALoRA-DNAS")
}
