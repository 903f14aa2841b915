"""A table of ratios to LoRA, coloured, beside ALLoRA's coefficient."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from allora_lab.methods import METHODS
from allora_lab.plots.style import COLOURS, lab_style


def draw_ratios(axes: Axes, ratios: Mapping[str, Mapping[str, float]]) -> None:
    """Draw one row a method and one column a quantity; blue is less than LoRA, red is more."""
    columns = list(next(iter(ratios.values())))
    values = np.array([[row[column] for column in columns] for row in ratios.values()])
    axes.imshow(np.log2(values), cmap="RdBu_r", vmin=-3, vmax=3, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        colour = "white" if abs(np.log2(value)) > 2 else "black"
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(ratios)), [METHODS[method].label for method in ratios])
    axes.xaxis.tick_top()
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def draw_coefficient(axes: Axes, *, eta_squared: float, row_norm: float) -> None:
    """Draw acc = 1 / √(norm + 1/η²) against the row norm, and where the layer stands now."""
    norms = np.linspace(0, 4, 200)
    axes.plot(norms, (norms + 1 / eta_squared) ** -0.5, color=COLOURS["allora"], lw=2.2)
    here = (row_norm + 1 / eta_squared) ** -0.5
    axes.plot(row_norm, here, "o", color="black")
    axes.annotate(f"{here:.2f}", (row_norm, here), (6, 6), textcoords="offset points")
    axes.axhline(1, color="#888888", lw=0.8)
    axes.set(xlim=(0, 4), ylim=(0, 1.08 * eta_squared**0.5 + 0.3))
    axes.set(xlabel="row norm ||(BA)_i||", ylabel="factor on ∇A and ∇B")
    axes.set_title("ALLoRA's coefficient")


def one_layer_figure(
    figure: Figure,
    ratios: Mapping[str, Mapping[str, float]],
    *,
    eta_squared: float,
    row_norm: float,
) -> Figure:
    """Redraw `figure`: the table on the left, the coefficient on the right."""
    with lab_style():
        figure.clear()
        table = figure.add_axes((0.27, 0.05, 0.33, 0.78))
        draw_ratios(table, ratios)
        table.set_title("size of each response, LoRA = 1", pad=26)
        curve = figure.add_axes((0.69, 0.15, 0.29, 0.68))
        draw_coefficient(curve, eta_squared=eta_squared, row_norm=row_norm)
    return figure
