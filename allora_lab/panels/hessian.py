"""Panel of notebook 02: the spectrum in V, and the two starts in A and B."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from allora_lab.experiments.hessian import convex_case, joint_case
from allora_lab.experiments.planted_task import planted_task, start_of_A
from allora_lab.panels.base import Panel, choice
from allora_lab.plots.spectrum import SpectrumDrawing
from allora_lab.theory.hessian import hessian


class HessianPanel(Panel):
    """Samples n, inputs d, rank r and scale of A; eigenvalues in V and in (A, B)."""

    def __init__(self) -> None:
        self._drawing = SpectrumDrawing()
        super().__init__(
            {
                "n": choice("samples n", (2, 4, 8, 12, 16, 24, 32, 48, 64, 128), 8),
                "d": choice("inputs d", (8, 16, 24, 32), 16),
                "r": choice("rank r", (1, 2, 4, 8), 2),
                "scale": choice(
                    "scale of A", (0.0, 0.01, 0.1, 0.3, 1.0, 3.0), 1.0, "1 is LoRA's own start"
                ),
            },
            self._show,
            computed_by=(convex_case, joint_case, hessian),
        )

    def _show(self, n: int, d: int, r: int, scale: float) -> tuple[Figure, str]:
        task = planted_task(n, d_in=d)
        convex = convex_case(task)
        zero = joint_case(task, start_of_A(d, r, scale=0.0))
        start = joint_case(task, start_of_A(d, r, scale=scale))
        figure = self._drawing.update(convex, zero, start)
        return figure, _words_on_V(convex) + _words_on_A_and_B(start, r, scale)


def _words_on_V(case: Mapping[str, Any]) -> str:
    n, d, flat = case["n"], case["d_in"], case["eigenvalues"].count(0.0)
    rank = (
        f"rank {case['rank']} of {case['size']}: {flat} of {d} directions, {case['size'] // d} "
        "times each, never move, wherever V is"
        if flat
        else f"full rank {case['size']}"
    )
    return (
        f"With n = {n} samples and d = {d} inputs the Hessian in V has {rank}. {'The others span' if flat else 'Its eigenvalues span'} a "
        f"factor {case['condition']:.3g} (grey: Marchenko and Pastur's band for random inputs); the "
        f"slowest needs a time {case['slowest_time']:.3g} (learning rate × steps) to lose 99 % of "
        "its error. "
    )


def _words_on_A_and_B(case: Mapping[str, Any], r: int, scale: float) -> str:
    is_saddle = case["gradient_B"] == 0
    return (
        f"In A and B, with r = {r} and A at scale {scale:g}, {case['negative']} eigenvalues are below "
        f"zero and {case['positive']} above; the gradient of B is {case['gradient_B']:.3g}, so that "
        f"this is {'a' if is_saddle else 'no'} saddle, and the loss starts to fall at "
        f"{100 * case['speed_ratio']:.3g} % of full fine-tuning's speed."
    )
