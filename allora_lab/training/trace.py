"""What is measured of the adapters at chosen steps, and how it is kept: one list a quantity."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from allora_lab.adapters.inject import adapted_layers

QUANTILES = (0.1, 0.5, 0.9)


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
