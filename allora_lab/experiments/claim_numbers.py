"""The numbers that verdicts quote, each computed: from a figure's content, a record or the paper.

`verdict_text = "off by {ridge-missed-output:.0%}"` has the number put in by `filled_in`.
"""

from collections.abc import Callable
from functools import cache, partial

import torch

from allora_lab.checks import require_known
from allora_lab.experiments.demo import FOLDER, escape_config
from allora_lab.experiments.dropout_ols import dropout_ols_content
from allora_lab.experiments.hessian import hessian_content
from allora_lab.experiments.paper_numbers import (
    DropoutRow,
    paper_differences,
    read_paper_table,
)
from allora_lab.experiments.records import read_record, record_path
from allora_lab.experiments.ripple import RATIO, SCALING, L, ripple_case, ripple_curves
from allora_lab.theory.adaptive_rate import local_exponent, output_coefficient
from allora_lab.theory.mean_of_draws import NORMAL_FACTOR

_ols, _hessian = cache(dropout_ols_content), cache(hessian_content)
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


def _count(name: str, which: int) -> float:
    return paper_differences(*PRINTED[name]).counts[which]


def _range_at_epoch_3() -> float:
    found = [row.acc_epoch3 for row in read_paper_table("dropout") if isinstance(row, DropoutRow)]
    return max(found) - min(found)


def _noise(steps: int) -> float:
    run = _ols()["cases"]["output"]["not_whitened"]["moving"]
    at = run["steps"].index(steps)
    return run["spread"][at] / run["effect"][at]


def _ridge_missed(placement: str) -> float:
    return _ols()["cases"][placement]["not_whitened"]["shrinkage"]["distance"]


def _condition(n: int) -> float:
    found = _hessian()["conditioning"]
    return found["median"][found["n"].index(n)]


def _wait() -> float:
    escape = _hessian()["escape"]
    return escape["times"][escape["scales"].index(1.0)] / escape["full_time"]


def _start(column: str) -> float:
    return next(row[column] for row in _hessian()["landscape"] if row["scale"] == 1)


def _stack(curve: str) -> float:
    case, at = ripple_case(0, networks=32), {"scaling": SCALING, "ratio": RATIO, "alignment": 1.0}
    return ripple_curves(case, "multi-linear", **at)[curve][L]


def _parameters(method: str) -> float:
    config = escape_config("adamw", method=method)
    return read_record(record_path(FOLDER, config)).trainable_parameters


NUMBERS: dict[str, Callable[[], float]] = {
    "noise-after-3": partial(_noise, 3),
    "noise-after-10": partial(_noise, 10),
    "noise-after-100": partial(_noise, 100),
    "noise-after-10000": partial(_noise, 10000),
    "one-loss-strays": lambda: _ols()["sampled"]["errors"][0] / _ols()["sampled"]["added"],
    "masked-entries": lambda: _ols()["setting"]["n"] * _ols()["setting"]["c"],
    "bound-too-large": lambda: 1 / NORMAL_FACTOR,
    "appendix-printed": lambda: _ols()["appendix"]["printed"],
    "appendix-corrected": lambda: _ols()["appendix"]["corrected"],
    "std-at-zero": lambda: _ols()["std_from_zero"]["std"][0],
    "joint-bias": lambda: _ols()["joint_bias"]["bias"] / _ols()["joint_bias"]["effect"],
    "ridge-missed-output": partial(_ridge_missed, "output"),
    "ridge-missed-input": partial(_ridge_missed, "input"),
    "ridge-missed-bottleneck": partial(_ridge_missed, "bottleneck"),
    "few-n": lambda: _hessian()["spectra"][0]["n"],
    "few-rank": lambda: _hessian()["spectra"][0]["rank"],
    "few-size": lambda: _hessian()["spectra"][0]["size"],
    "d-in": lambda: _hessian()["d_in"],
    "condition-at-4": partial(_condition, 4),
    "condition-at-32": partial(_condition, 32),
    "wait": _wait,
    "gradient-at-start": partial(_start, "gradient_B"),
    "stack-layers": lambda: L,
    "stack-bound": partial(_stack, "bound"),
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
