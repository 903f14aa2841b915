"""The numbers of the figure `adaptive-rate`: the paper's Figure 5, its family, and a row's way."""

from typing import Any

import torch

from allora_lab.theory.adaptive_rate import (
    adaptive_coefficient,
    asf_slope,
    local_exponent,
    output_coefficient,
    row_norm,
    taper_time,
    time_to_norm,
)

ETA_SQUARED = (1.0, 2.0, 4.0)  # the paper's Figure 5
FAMILY_ETA_SQUARED = 4.0
NORMS = torch.linspace(0, 4, 101, dtype=torch.float64)


def family_curves(eta_squared: float) -> dict[str, list[float]]:
    """Return what each member multiplies a gradient by, over `NORMS`.

    ALLoRA-OD's factor is the mean over normal inputs (`allora-od`), with a band of one standard
    deviation (`od_low`, `od_high`); ASF-LoRA's is its slope at an output as large as the norm.
    """
    mean, spread = output_coefficient(NORMS, eta_squared, points=401)
    curves = {
        "allora": adaptive_coefficient(NORMS, eta_squared),
        "allora-od": mean,
        "od_low": mean - spread,
        "od_high": mean + spread,
        "asf-lora": asf_slope(NORMS, eta_squared),
        "lora-fixed-scale": torch.full_like(NORMS, eta_squared**0.5),
        "lora": torch.ones_like(NORMS),
    }
    return {name: values.tolist() for name, values in curves.items()}


def way_curves(eta_squared: float) -> dict[str, list[float]]:
    """Return n(t) under a constant gradient of 1, from a ten-thousandth to 1e4 of lr times steps."""
    time = torch.logspace(-4, 4, 65, dtype=torch.float64)
    curves = {
        "time": time,
        "lora": time,
        "lora-fixed-scale": eta_squared**0.5 * time,
        "allora": row_norm(time, eta_squared),
    }
    return {name: values.tolist() for name, values in curves.items()}


def at_norm(row_norm: float, eta_squared: float) -> dict[str, float]:
    """Return, at one row norm, the factors, the exponent and when the row gets there (g = 1)."""
    norm = torch.tensor([row_norm], dtype=torch.float64)
    mean, spread = output_coefficient(norm, eta_squared)
    return {
        "allora": adaptive_coefficient(norm, eta_squared).item(),
        "od_mean": mean.item(),
        "od_spread": spread.item(),
        "asf": asf_slope(norm, eta_squared).item(),
        "exponent": local_exponent(norm, eta_squared).item(),
        "time": time_to_norm(norm, eta_squared).item(),
    }


def adaptive_rate_content() -> dict[str, Any]:
    """Return the content of `adaptive-rate.json`; nothing in it is drawn at random."""
    content = {
        "norms": NORMS.tolist(),
        "coefficients": {f"{e:g}": adaptive_coefficient(NORMS, e).tolist() for e in ETA_SQUARED},
        "eta_squared": FAMILY_ETA_SQUARED,
        "family": family_curves(FAMILY_ETA_SQUARED),
        "way": way_curves(FAMILY_ETA_SQUARED),
        "taper_time": taper_time(FAMILY_ETA_SQUARED),
    }
    return {**content, "sentences": _sentences(FAMILY_ETA_SQUARED)}


def _sentences(eta_squared: float) -> list[str]:
    norms = torch.tensor([1.0, 100.0], dtype=torch.float64)
    mean, spread = output_coefficient(norms, eta_squared)
    exponents = local_exponent(norms, eta_squared).tolist()
    acc = adaptive_coefficient(norms, eta_squared).tolist()
    exponent = (
        f"With eta^2 = {eta_squared:g} the coefficient falls with the exponent {exponents[0]:.2f} at "
        f"a row norm of 1 and {exponents[1]:.2f} at 100: one over the square root, not one over the "
        f"norm."
    )
    noise = (
        f"ALLoRA-OD at a row norm of 1: mean {mean[0].item():.2f}, standard deviation "
        f"{spread[0].item():.2f} over tokens, where ALLoRA has {acc[0]:.2f} for all."
    )
    way = (
        f"Pulled by a constant gradient a row follows eta x lr until lr x steps x gradient is "
        f"{taper_time(eta_squared):.3g}, then grows with exponent 2/3, and stops at no level."
    )
    return [exponent, noise, way]
