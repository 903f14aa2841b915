"""Panel of notebook 01: what dropout asks for on average, and how far N draws or steps are from it."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from allora_lab.experiments.dropout_case import STEPS, dropout_case
from allora_lab.experiments.dropout_task import R
from allora_lab.panels.base import Panel, choice, menu
from allora_lab.plots.dropout_drawing import DropoutDrawing, is_ridge, noise_to_effect
from allora_lab.theory.dropout_ols import expected_loss, loss_variance
from allora_lab.theory.mean_of_draws import error_bound, normal_error

KEEPS = (0.3, 0.5, 0.6, 0.8, 0.9, 0.95, 0.99)
COUNTS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
PLACES = {
    "output (the submission)": "output",
    "bottleneck (arXiv)": "bottleneck",
    "input (loralib, PEFT)": "input",
}
WHITE = {"no": False, "yes: XᵀX = c I": True}


class DropoutOLSPanel(Panel):
    """Keep probability, N, place of the mask and whitening; noise against N, shares against h."""

    def __init__(self) -> None:
        self._drawing = DropoutDrawing()
        super().__init__(
            {
                "keep": choice("keep probability p", KEEPS, 0.9, "the paper's p; dropout 1 - p"),
                "n_steps": choice("draws, steps N", COUNTS, 30),
                "placement": menu("dropout on", PLACES, "output"),
                "is_whitened": menu("X whitened", WHITE, value=False),
            },
            self._show,
            computed_by=(dropout_case, expected_loss, loss_variance),
        )

    def _show(
        self, keep: float, n_steps: int, placement: str, is_whitened: bool
    ) -> tuple[Figure, str]:
        case = dropout_case(placement=placement, keep=keep, is_whitened=is_whitened)
        words = [
            f"p = {keep:g} (dropout {1 - keep:.2g}) on the {placement}.",
            _on_fixed(case["fixed"], n_steps),
            _on_moving(case["moving"], placement, n_steps),
            _on_shrinkage(case["shrinkage"], placement),
        ]
        return self._drawing.update(case, n_steps), " ".join(words)


def _on_fixed(fixed: Mapping[str, Any], n_steps: int) -> str:
    share = 100 / fixed["added"]
    return (
        f"<b>W fixed:</b> the mean of N = {n_steps} draws misses its expectation by "
        f"{share * normal_error(fixed['std'], n_steps):.3g} % of what dropout adds to the loss, on "
        f"average; the bound Std/√N is {share * error_bound(fixed['std'], n_steps):.3g} %."
    )


def _on_moving(moving: Mapping[str, Any], placement: str, n_steps: int) -> str:
    who = "B moves (A frozen)" if placement == "bottleneck" else "W moves"
    if n_steps not in STEPS:
        return (
            f"<b>{who}:</b> after {n_steps} step from 0 dropout has changed the mean run by nothing, "
            "yet the runs differ."
        )
    ratios = dict(zip(moving["steps"], noise_to_effect(moving), strict=True))
    return (
        f"<b>{who}:</b> after N = {n_steps} steps from 0 one run is off the mean of all runs by "
        f"{100 * ratios[n_steps]:.3g} % of what dropout does to that mean; the curve ends at "
        f"{100 * ratios[STEPS[-1]]:.2g} %, a floor the learning rate sets."
    )


def _on_shrinkage(shrinkage: Mapping[str, Any], placement: str) -> str:
    low, high = min(shrinkage["shares"]), max(shrinkage["shares"])
    low, high = (abs(round(share, 2)) for share in (low, high))
    kept = f"{high:.2f} of least squares" if low == high else f"{low:.2f} to {high:.2f}"
    rank = f" of rank {R}" if placement == "bottleneck" else ""
    start = f"<b>The mean</b> asks for a W{rank} that keeps {kept}, direction by direction: "
    rank_alone = f" ({100 * shrinkage['rank_alone']:.2g} % for its rank alone)" if rank else ""
    if is_ridge(shrinkage):
        return start + f"exactly the ridge with λ = {shrinkage['lam']:.3g}."
    return start + (
        f"no ridge; the nearest, λ = {shrinkage['lam']:.3g}, is {100 * shrinkage['distance']:.2g} % "
        f"of its length away{rank_alone}."
    )
