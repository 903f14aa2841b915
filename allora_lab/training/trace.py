"""What is measured of the adapters at chosen steps, and how it is kept: one list a quantity."""

import sys
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn

from allora_lab.adapters.inject import adapted_layers
from allora_lab.checks import shortened

QUANTILES = (0.1, 0.5, 0.9)
DEEPEST = 8  # tables in tables; those of the lab have five
NUMBERS = {int, float, NoneType}  # None: not measured at that step


def rounded(value: float) -> float:
    """Return five significant digits: more than a figure shows, and small files."""
    return float(f"{value:.5g}")


def _gradient_norm(parameter: Tensor) -> float | None:
    return None if parameter.grad is None else rounded(parameter.grad.norm().item())


@torch.no_grad()
def measure(model: nn.Module) -> dict[str, Any]:
    """Return how far the adapters are from zero, and how hard they are pulled.

    `row_norm_mean` and `row_norm_quantiles` (10, 50, 90 %) are of ||(BA)_i|| over all rows of all
    layers; `layers` has, for each, the mean, ||A||, ||B|| and the norms of their last gradients
    (Frobenius, as the optimizer saw them; None before the first step).
    """
    layers, rows = {}, []
    for name, layer in adapted_layers(model).items():
        row_norms = layer.row_norms().float().cpu()
        rows.append(row_norms)
        layers[name] = {
            "row_norm_mean": rounded(row_norms.mean().item()),
            "norm_A": rounded(layer.lora_A.norm().item()),
            "norm_B": rounded(layer.lora_B.norm().item()),
            "grad_norm_A": _gradient_norm(layer.lora_A),
            "grad_norm_B": _gradient_norm(layer.lora_B),
        }
    every_row = torch.cat(rows)
    quantiles = torch.quantile(every_row, every_row.new_tensor(QUANTILES))
    return {
        "row_norm_mean": rounded(every_row.mean().item()),
        "row_norm_quantiles": [rounded(q) for q in quantiles.tolist()],
        "layers": layers,
    }


def append_row(trace: dict[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Append one step's values to a trace of lists, nested as the row is, and return the trace."""
    for key, value in row.items():
        if isinstance(value, Mapping):
            append_row(trace.setdefault(key, {}), value)
        else:
            trace.setdefault(key, []).append(value)
    return trace


def require_trace(trace: object, done: int) -> None:
    """Raise ValueError, naming the part, unless a value is the trace of a run after `done` steps.

    A trace is a table of lists of finite numbers, tables inside it included; `loss` has a number
    for every step, and `row_norm_mean` one for each of `step`.
    """
    if not isinstance(trace, dict):
        raise ValueError(f"trace must be a table of lists, got {shortened(trace)}")  # noqa: TRY004
    _require_lists("trace", trace, DEEPEST)
    losses, steps = trace.get("loss", []), trace.get("step", [])
    if not isinstance(losses, list) or len(losses) != done or None in losses:
        raise ValueError(f"trace.loss must have a number for each of the {done} steps")
    norms = trace.get("row_norm_mean")
    if not steps or not isinstance(steps, list) or not all(isinstance(s, int) for s in steps):
        raise ValueError("trace.step must be a list of whole numbers, at least one")
    if steps != sorted(steps) or not 0 <= steps[0] <= steps[-1] <= done:
        raise ValueError(f"trace.step must rise from 0 to {done} at most, got {shortened(steps)}")
    if not isinstance(norms, list) or len(norms) != len(steps):
        raise ValueError(f"trace.row_norm_mean must have {len(steps)} numbers, one for each step")


def _require_lists(name: str, value: object, depth: int) -> None:
    if isinstance(value, dict) and depth:
        for key, part in value.items():
            _require_lists(f"{name}.{key}", part, depth - 1)
    elif not isinstance(value, list) or not _are_numbers(value, DEEPEST):
        raise ValueError(f"{name} must be a list of finite numbers, got {shortened(value)}")


def _are_numbers(values: Sequence[object], depth: int) -> bool:
    kinds = set(map(type, values))
    if kinds == {list}:
        return depth > 0 and all(_are_numbers(part, depth - 1) for part in values)
    largest = sys.float_info.max
    return kinds <= NUMBERS and all(v is None or -largest <= v <= largest for v in values)
