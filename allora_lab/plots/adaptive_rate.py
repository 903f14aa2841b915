"""The adaptive function, the family that uses it, and the way of a row from zero."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from allora_lab.methods import METHODS
from allora_lab.plots.style import COLOURS, EndLabel, lab_style, label_ends, log_scale

FAMILY = ("lora-fixed-scale", "allora", "allora-od", "asf-lora")
WAY = ("lora-fixed-scale", "lora", "allora")
FIGURE_5 = ("#0072B2", "#E69F00", "#D55E00")


class AdaptiveRateDrawing:
    """Factors over the row norm beside the norm over time; drawn once, then `update`d."""

    def __init__(self, norms: Sequence[float]) -> None:
        self._norms = norms
        with lab_style():
            self.figure = Figure(figsize=(9.4, 4.0))
            self._left = self.figure.add_axes((0.08, 0.14, 0.27, 0.74))
            self._right = self.figure.add_axes((0.585, 0.14, 0.27, 0.74))
            _frame_family(self._left, norms[-1])
            _frame_way(self._right)
            self._factors = {key: _line(self._left, key) for key in FAMILY}
            self._band = [self._left.plot([], [], ":", color=COLOURS["allora-od"])[0] for _ in "ab"]
            self._ways = {key: _line(self._right, key) for key in WAY}
            self._here = [axes.plot([], [], "ko")[0] for axes in (self._left, self._right)]

    def update(
        self,
        family: Mapping[str, Sequence[float]],
        way: Mapping[str, Sequence[float]],
        here: tuple[float, float, float],
    ) -> Figure:
        """Show both; `here` is the row norm, ALLoRA's factor at it and the time it is reached at."""
        norm, factor, time = here
        with lab_style():
            for key, line in self._factors.items():
                line.set_data(self._norms, family[key])
            for line, name in zip(self._band, ("od_low", "od_high"), strict=True):
                line.set_data(self._norms, family[name])
            for key, line in self._ways.items():
                line.set_data(way["time"], way[key])
            self._here[0].set_data([norm], [factor])
            self._here[1].set_data([time], [norm])
            self._left.set_ylim(0, 1.12 * max(1.0, family["lora-fixed-scale"][0]))
            for axes, drawn, keys in (
                (self._left, family, FAMILY),
                (self._right, way, WAY),
            ):
                for text in list(axes.texts):
                    text.remove()
                label_ends(axes, _labels(axes, drawn, keys), gap=0.09)
        return self.figure


def _line(axes: Axes, key: str) -> Line2D:
    return axes.plot([], [], color=COLOURS[key], lw=2.2)[0]


def _labels(
    axes: Axes, drawn: Mapping[str, Sequence[float]], keys: Sequence[str]
) -> list[EndLabel]:
    right = axes.get_xlim()[1]
    return [EndLabel(right, drawn[key][-1], METHODS[key].label, COLOURS[key]) for key in keys]


def _frame_family(axes: Axes, last: float) -> None:
    axes.set_xlim(0, last)
    axes.axhline(1, color="#888888", lw=0.8)
    axes.set(xlabel="row norm ||(BA)_i||", ylabel="factor on the gradient")
    axes.set_title("what the gradient is multiplied by")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))  # every tick is drawn anew each time


def _frame_way(axes: Axes) -> None:
    log_scale(axes)
    log_scale(axes, "x")
    axes.set(xlim=(1e-4, 1e4), ylim=(1e-5, 1e5))
    axes.set(xlabel="lr × steps × gradient", ylabel="row norm ||(BA)_i||")
    axes.set_title("a row pulled evenly")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(numticks=5))


def adaptive_rate_figure(content: Mapping[str, Any]) -> Figure:
    """Return the figure of `adaptive-rate.json`: Figure 5 of the paper, the family, and the way."""
    norms, family, way = content["norms"], content["family"], content["way"]
    with lab_style():
        figure = Figure(figsize=(14, 4.2))
        axes = [figure.add_subplot(1, 3, number) for number in (1, 2, 3)]
        labels = [
            _draw_figure_5(axes[0], norms, content["coefficients"]),
            _draw_family(axes[1], norms, family),
            _draw_way(axes[2], way, content["taper_time"]),
        ]
        axes[1].set_title(f"the family, η² = {content['eta_squared']:g}")
        figure.subplots_adjust(left=0.055, right=0.9, bottom=0.14, top=0.9, wspace=0.62)
        for drawn, ends in zip(axes, labels, strict=True):
            label_ends(drawn, ends, gap=0.09)
    return figure


def _draw_figure_5(
    axes: Axes, norms: Sequence[float], coefficients: Mapping[str, Sequence[float]]
) -> list[EndLabel]:
    _frame_family(axes, norms[-1])
    axes.set_title("1 / √(norm + 1/η²)")
    ends = []
    for (eta_squared, values), colour in zip(coefficients.items(), FIGURE_5, strict=True):
        axes.plot(norms, values, color=colour, lw=2.2)
        ends.append(EndLabel(norms[-1], values[-1], f"η² = {eta_squared}", colour))
    axes.set_ylim(bottom=0)
    return ends


def _draw_family(
    axes: Axes, norms: Sequence[float], family: Mapping[str, Sequence[float]]
) -> list[EndLabel]:
    _frame_family(axes, norms[-1])
    axes.fill_between(
        norms, family["od_low"], family["od_high"], color=COLOURS["allora-od"], alpha=0.2
    )
    for key in FAMILY:
        axes.plot(norms, family[key], color=COLOURS[key], lw=2.2)
    axes.set_ylim(bottom=0)
    return _labels(axes, family, FAMILY)


def _draw_way(axes: Axes, way: Mapping[str, Sequence[float]], taper_time: float) -> list[EndLabel]:
    _frame_way(axes)
    for key in WAY:
        axes.plot(way["time"], way[key], color=COLOURS[key], lw=2.2)
    axes.axvline(taper_time, color="#888888", lw=0.8, ls="--")
    axes.text(taper_time * 1.4, 3e-5, "the taper\nsets in", size="small", color="#555555")
    slopes = np.gradient(np.log(way["allora"]), np.log(way["time"]))
    for index in (8, -9):
        place = way["time"][index], way["allora"][index]
        axes.annotate(
            f"slope {slopes[index]:.2f}", place, (14, -14), textcoords="offset points", size="small"
        )
    return _labels(axes, way, WAY)
