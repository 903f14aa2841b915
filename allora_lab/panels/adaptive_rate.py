"""Short panel of notebook 05: the adaptive function, its family, and the way of a row."""

from matplotlib.figure import Figure

from allora_lab.experiments.adaptive_rate import NORMS, at_norm, family_curves, way_curves
from allora_lab.panels.base import Panel, choice
from allora_lab.plots.adaptive_rate import AdaptiveRateDrawing

ETA_SQUARED = (0.25, 1.0, 2.0, 4.0, 8.0, 16.0)
ROW_NORMS = (0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)


class AdaptiveRatePanel(Panel):
    """η² and the norm of a row: what multiplies its gradient, and how it came to be so long."""

    def __init__(self) -> None:
        self._drawing = AdaptiveRateDrawing(NORMS.tolist())
        super().__init__(
            {
                "eta_squared": choice("η²", [(f"{e:g}", e) for e in ETA_SQUARED], 4.0),
                "row_norm": choice("row norm of BA", ROW_NORMS, 0.25),
            },
            self._show,
            computed_by=(at_norm, family_curves, way_curves),
        )

    def _show(self, eta_squared: float, row_norm: float) -> tuple[Figure, str]:
        at = at_norm(row_norm, eta_squared)
        here = row_norm, at["allora"], at["time"]
        figure = self._drawing.update(family_curves(eta_squared), way_curves(eta_squared), here)
        return figure, (
            f"η² = {eta_squared:g}, row norm {row_norm:g}: ALLoRA multiplies the row's gradient by "
            f"{at['allora']:.3g} (a fixed scale: {eta_squared**0.5:.3g}) and falls there with the "
            f"exponent {at['exponent']:.2f}. ALLoRA-OD multiplies it by {at['od_mean']:.3g} ± "
            f"{at['od_spread']:.2g} (mean and standard deviation over normal inputs; dotted), ASF-"
            f"LoRA's slope at an output of that size is {at['asf']:.3g}. Pulled by a constant "
            f"gradient, the row gets this long when lr × steps × gradient is {at['time']:.3g}; LoRA "
            f"at the same lr needs {row_norm:.3g}."
        )
