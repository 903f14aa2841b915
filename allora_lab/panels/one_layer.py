"""Panel of notebook 05: the same layer under every method."""

from matplotlib.figure import Figure

from allora_lab.experiments.one_layer import (
    QUANTITIES,
    RULES,
    random_case,
    ratios_to_lora,
    responses,
)
from allora_lab.panels.base import Panel, choice
from allora_lab.plots.one_layer import OneLayerDrawing


class OneLayerPanel(Panel):
    """η², rank and the length of BA's rows; the table shows every method's responses."""

    def __init__(self) -> None:
        self._drawing = OneLayerDrawing(list(RULES), QUANTITIES)
        self._case = random_case()
        super().__init__(
            {
                "eta_squared": choice(
                    "η²", [(f"{e:g}", e) for e in (1.0, 2.0, 4.0, 8.0, 16.0)], 4.0
                ),
                "row_norm": choice("row norm of BA", (1e-4, 0.01, 0.1, 0.5, 1.0, 2.0, 4.0), 1e-4),
                "r": choice("rank r", (1, 2, 4, 8, 16, 32), 8),
            },
            self._show,
            computed_by=(ratios_to_lora, responses),
        )

    def _show(self, eta_squared: float, row_norm: float, r: int) -> tuple[Figure, str]:
        ratios = ratios_to_lora(self._case, eta_squared=eta_squared, r=r, row_norm=row_norm)
        figure = self._drawing.update(ratios, eta_squared=eta_squared, row_norm=row_norm)
        allora, fixed = ratios["allora"], ratios["lora-fixed-scale"]
        return figure, (
            f"With η² = {eta_squared:g}, rank {r} and rows of mean length {row_norm:g}, ALLoRA leaves the "
            f"output at {allora['output']:.2f} times LoRA's and multiplies the gradient of B by "
            f"{allora['∇B']:.2f}, of A by {allora['∇A']:.2f} and of x by {allora['∇x']:.2f}; a fixed "
            f"scale η multiplies all four by {fixed['output']:.2f}."
        )
