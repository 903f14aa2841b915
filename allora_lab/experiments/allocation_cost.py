"""What a fine-tune costs when ranks move, beside LoRA's: `benchmarks/allocation.py` makes the record."""

from pathlib import Path
from typing import Any

from allora_lab.experiments.cost import LORA, beside_lora, read_cost_record
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
