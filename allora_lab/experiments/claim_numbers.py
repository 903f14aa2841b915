"""The numbers that verdicts quote, each computed: from a figure's content, a record or the paper.

`verdict_text = "off by {ridge-missed-output:.0%}"` has the number put in by `filled_in`.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch

from allora_lab.checks import require_known
from allora_lab.experiments.demo import FOLDER, escape_config
from allora_lab.experiments.dropout_case import dropout_case
from allora_lab.experiments.dropout_ols import KEEP, appendix, joint_bias, sampled, std_from_zero
from allora_lab.experiments.dropout_task import SAMPLES, C
from allora_lab.experiments.hessian import conditioning, convex_case, escape, joint_case
from allora_lab.experiments.paper_numbers import (
    DropoutRow,
    paper_differences,
    read_paper_table,
)
from allora_lab.experiments.planted_task import D_IN, planted_task, start_of_A
from allora_lab.experiments.records import read_record, record_path
from allora_lab.experiments.ripple import RATIO, SCALING, L, ripple_case, ripple_curves
from allora_lab.theory.adaptive_rate import local_exponent, output_coefficient
from allora_lab.theory.mean_of_draws import NORMAL_FACTOR
from allora_lab.theory.ripple import growth_bound

_joint_bias, _sampled = cache(joint_bias), cache(sampled)
_convex = cache(lambda: convex_case(planted_task(8)))
_conditioning = cache(lambda: conditioning((4, 32)))
_escape = cache(lambda: escape(planted_task(2 * D_IN), (1.0, 0.5)))
_start = cache(lambda: joint_case(planted_task(2 * D_IN), start_of_A(scale=1.0)))
PRINTED = {  # what the paper prints, of which the submission's "ALLoRA" is ALLoRA+D
    "table1": ("commonsense", "ALLoRA", "DoRA"),
    "table1-dropout": ("commonsense", "ALLoRA+D", "DoRA"),
    "table3": ("perception", "ALLoRA", "LoRA"),
    "table3-dropout": ("perception", "ALLoRA+D", "LoRA"),
    "table4-od": ("ablation", "ALLoRA+D", "ALLoRA-OD"),
    "table4-asf": ("ablation", "ALLoRA+D", "ASF-LoRA"),
    "table4-fixed": ("ablation", "ALLoRA+D", "LoRAxeta"),
    "table4-fixed-asf": ("ablation", "LoRAxeta", "ASF-LoRA"),
}


def _strays(n: int) -> float:
    """Return how far the mean of n draws of the loss strays, over what dropout adds to the loss."""
    place = _sampled()["sizes"].index(n)
    return _sampled()["errors"][place] / _sampled()["added"]


def _count(name: str, which: int) -> float:
    return paper_differences(*PRINTED[name]).counts[which]


def _range_at_epoch_3() -> float:
    found = [row.acc_epoch3 for row in read_paper_table("dropout") if isinstance(row, DropoutRow)]
    return max(found) - min(found)


def _case(placement: str) -> dict[str, dict[str, Any]]:
    return dropout_case(placement=placement, keep=KEEP, is_whitened=False)


def _noise(steps: int) -> float:
    run = _case("output")["moving"]
    at = run["steps"].index(steps)
    return run["spread"][at] / run["effect"][at]


def _ridge_missed(placement: str) -> float:
    return _case(placement)["shrinkage"]["distance"]


def _condition(n: int) -> float:
    found = _conditioning()
    return found["median"][found["n"].index(n)]


def _wait() -> float:
    return _escape()["times"][0] / _escape()["full_time"]


def _appendix(line: str) -> float:
    return appendix(_case("output")["fixed"])[line]


def _bound() -> float:
    return growth_bound(torch.full((L,), RATIO, dtype=torch.float64), SCALING)[-1].item()


def _stack(curve: str) -> float:
    case, at = ripple_case(), {"scaling": SCALING, "ratio": RATIO, "alignment": 1.0}
    return ripple_curves(case, "multi-linear", **at)[curve][L]


def _parameters(method: str) -> float:
    config = escape_config("adamw", method=method)
    return read_record(record_path(FOLDER, config)).trainable_parameters


NUMBERS: dict[str, Callable[[], float]] = {
    "noise-after-3": partial(_noise, 3),
    "noise-after-10": partial(_noise, 10),
    "noise-after-100": partial(_noise, 100),
    "noise-after-10000": partial(_noise, 10000),
    "one-loss-strays": lambda: _strays(1),
    "mean-of-300-strays": lambda: _strays(300),
    "masked-entries": lambda: SAMPLES * C,
    "bound-too-large": lambda: 1 / NORMAL_FACTOR,
    "appendix-printed": partial(_appendix, "printed"),
    "appendix-corrected": partial(_appendix, "corrected"),
    "std-at-zero": lambda: std_from_zero(KEEP)["std"][0],
    "joint-bias": lambda: _joint_bias()["bias"] / _joint_bias()["effect"],
    "ridge-missed-output": partial(_ridge_missed, "output"),
    "ridge-missed-input": partial(_ridge_missed, "input"),
    "ridge-missed-bottleneck": partial(_ridge_missed, "bottleneck"),
    "few-n": lambda: _convex()["n"],
    "few-rank": lambda: _convex()["rank"],
    "few-size": lambda: _convex()["size"],
    "d-in": lambda: D_IN,
    "condition-at-4": partial(_condition, 4),
    "condition-at-32": partial(_condition, 32),
    "wait": _wait,
    "gradient-at-start": lambda: _start()["gradient_B"],
    "stack-layers": lambda: L,
    "stack-bound": _bound,
    "stack-aligned": partial(_stack, "aligned"),
    "stack-random": partial(_stack, "random"),
    "stack-theta": lambda: (1 + SCALING) ** L,
    "stack-scaling": lambda: SCALING,
    "stack-ratio": lambda: RATIO,
    "exponent-at-100": lambda: local_exponent(torch.tensor([100.0]), 4.0).item(),
    "od-mean": lambda: output_coefficient(torch.tensor([1.0]), 4.0)[0].item(),
    "od-std": lambda: output_coefficient(torch.tensor([1.0]), 4.0)[1].item(),
    "parameters-allora": partial(_parameters, "allora"),
    "parameters-dora": partial(_parameters, "dora"),
    "table2-range-at-3": _range_at_epoch_3,
    **{
        f"{name}-{word}": partial(_count, name, which)
        for name in PRINTED
        for which, word in enumerate(("wins", "ties", "losses"))
    },
    **{
        f"{name}-mean": lambda gaps=gaps: paper_differences(*gaps).mean
        for name, gaps in PRINTED.items()
    },
}


class _Lazy(dict[str, float]):
    def __missing__(self, key: str) -> float:
        require_known("number in a verdict", key, NUMBERS)
        return NUMBERS[key]()


def filled_in(text: str) -> str:
    """Return a text with its `{name:format}` replaced by numbers computed now.

    Raises
    ------
    ValueError
        For a name that NUMBERS does not have, or a brace without its partner.
    """
    return text.format_map(_Lazy())
