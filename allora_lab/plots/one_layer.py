"""A table of ratios to LoRA, coloured, beside ALLoRA's coefficient."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text

from allora_lab.methods import METHODS
from allora_lab.plots.style import COLOURS, lab_style

LARGEST_NORM = 4.0  # where the curve of the coefficient ends
MOST_DOUBLINGS = 3  # of LoRA's response, where the colours end


class OneLayerDrawing:
    """A figure drawn once; `update` changes its numbers, which is faster than drawing anew.

    Parameters
    ----------
    methods, quantities
        Keys of the table's rows, and names of its columns.
    """

    def __init__(self, methods: Sequence[str], quantities: Sequence[str]) -> None:
        with lab_style():
            self.figure = Figure(figsize=(9.4, 4.4))
            table = self.figure.add_axes((0.27, 0.05, 0.33, 0.78))
            self._image, self._cells = _empty_table(table, methods, quantities)
            self._axes = self.figure.add_axes((0.69, 0.15, 0.29, 0.68))
            self._axes.axhline(1, color="#888888", lw=0.8)
            (self._curve,) = self._axes.plot([], [], color=COLOURS["allora"], lw=2.2)
            (self._here,) = self._axes.plot([], [], "o", color="black", clip_on=False)
            self._value = self._axes.annotate("", (0, 0), (6, 6), textcoords="offset points")
            self._axes.set(xlabel="row norm ||(BA)_i||", ylabel="factor on ∇A and ∇B")
            self._axes.set_xlim(0, LARGEST_NORM)
            self._axes.set_title("ALLoRA's coefficient")

    def update(
        self, ratios: Mapping[str, Mapping[str, float]], *, eta_squared: float, row_norm: float
    ) -> Figure:
        """Show one row a method and one column a quantity, and acc = 1 / √(norm + 1/η²)."""
        values = np.array([list(row.values()) for row in ratios.values()])
        doublings = np.log2(np.maximum(values, 2.0**-MOST_DOUBLINGS))  # 0 is as blue as can be
        self._image.set_data(doublings)
        for cell, value, doubling in zip(self._cells, values.flat, doublings.flat, strict=True):
            cell.set_text(f"{value:.2f}")
            cell.set_color("white" if abs(doubling) > 2 else "black")
        norms = np.linspace(0, LARGEST_NORM, 200)
        self._curve.set_data(norms, (norms + 1 / eta_squared) ** -0.5)
        here = (row_norm + 1 / eta_squared) ** -0.5
        self._here.set_data([row_norm], [here])
        self._value.xy = row_norm, here
        self._value.set_text(f"{here:.2f}")
        is_right = row_norm > LARGEST_NORM / 2
        self._value.set(ha="right" if is_right else "left", position=(-6 if is_right else 6, 6))
        self._axes.set_ylim(0, 1.08 * eta_squared**0.5 + 0.3)
        return self.figure


def _empty_table(
    axes: Axes, methods: Sequence[str], quantities: Sequence[str]
) -> tuple[AxesImage, list[Text]]:
    """Return the coloured cells and their texts, row by row; blue is less than LoRA, red more."""
    shape = len(methods), len(quantities)
    image = axes.imshow(
        np.zeros(shape), cmap="RdBu_r", vmin=-MOST_DOUBLINGS, vmax=MOST_DOUBLINGS, aspect="auto"
    )
    cells = [axes.text(j, i, "", ha="center", va="center") for i, j in np.ndindex(shape)]
    axes.set_xticks(range(len(quantities)), quantities)
    axes.set_yticks(range(len(methods)), [METHODS[method].label for method in methods])
    axes.xaxis.tick_top()
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("size of each response, LoRA = 1", pad=26)
    return image, cells
