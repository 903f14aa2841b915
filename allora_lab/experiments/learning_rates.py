"""Which learning rate suits which method: the rule behind the sweeps, and what it shows by itself.

The rule: for an optimizer and a method, of the rates tried, the one whose accuracy on the dev split
averaged over the seeds is highest; of equals the lowest.  The base rate l_b of the other sweeps is
half of what it gives for LoRA, so that LoRA at η x l_b has its best rate where η² = 4.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from allora_lab.experiments.collected import accuracies, collect, mean_and_half
from allora_lab.experiments.records import RunRecord
from allora_lab.methods import METHODS
from allora_lab.training.optimizers import OPTIMIZERS

SWEEP = "learning-rate"
Setting = tuple[str, str, int]  # optimizer, method, steps


def by_rate(records: Sequence[RunRecord]) -> dict[Setting, dict[float, list[float]]]:
    """Return the accuracies (percent, one a seed) of each optimizer, method and length by rate."""
    found: dict[Setting, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        config = record.config
        setting = (config["optimizer"], config["method"], config["steps"])
        found[setting][config["lr"]] += accuracies([record])
    return {setting: {lr: rates[lr] for lr in sorted(rates)} for setting, rates in found.items()}


def best_rate(rates: dict[float, list[float]]) -> float:
    """Return the rate with the highest mean; of equals the lowest."""
    return max(rates, key=lambda lr: (round(float(np.mean(rates[lr])), 9), -lr))


def chosen_rates(records: Sequence[RunRecord]) -> dict[Setting, float]:
    """Return what the rule gives for every optimizer, method and length of training tried."""
    return {setting: best_rate(rates) for setting, rates in by_rate(records).items()}


def _line(method: str, rates: dict[float, list[float]]) -> dict[str, Any]:
    mean, half = zip(*(mean_and_half(values) for values in rates.values()), strict=True)
    return {
        "label": METHODS[method].label,
        "colour": method,
        "x": list(rates),
        "mean": list(mean),
        "half": [value or 0.0 for value in half],
        "marks": [best_rate(rates)],
    }


def learning_rate_content() -> dict[str, Any]:
    """Return accuracy on dev sentences by learning rate, the rule's choices, and sentences."""
    collected = collect(SWEEP)
    found = by_rate(collected.records)
    panels, said = [], []
    for optimizer, steps in dict.fromkeys((o, s) for o, _, s in found):
        label = f"{OPTIMIZERS[optimizer].label}, {steps} steps"
        methods = [m for m in METHODS if (optimizer, m, steps) in found]
        panels.append(
            {
                "title": label,
                "x_label": "learning rate of A and B",
                "y_label": "accuracy on dev sentences, %",
                "x_scale": "log2",
                "lines": [_line(m, found[optimizer, m, steps]) for m in methods],
            }
        )
        picks = (
            f"{METHODS[m].label} {best_rate(rates):g} ({np.mean(rates[best_rate(rates)]):.1f} %)"
            for m in methods
            for rates in [found[optimizer, m, steps]]
        )
        said.append(f"{label}: the best rates are {', '.join(picks)}.")
    return {
        "seeds": max(len(v) for rates in found.values() for v in rates.values()),
        "panels": panels,
        "sentences": [*said, f"Of the sweep {SWEEP}, {collected.said}."],
    }
