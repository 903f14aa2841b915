"""Growth through depth: the bound, adapters that reach it, random ones, and a real model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from allora_lab.plots.style import COLOURS, EndLabel, lab_style, label_ends, log_scale, power_of_ten

BOUND, ALIGNED, RANDOM = "black", COLOURS["allora"], COLOURS["lora"]
MODEL = COLOURS["dora"]
ARCHITECTURE_LABELS = {
    "multi-linear": "multi-linear",
    "residual": "residual stream",
    "pre-layernorm": "LayerNorm before",
    "post-layernorm": "LayerNorm after",
}
ARCHITECTURE_COLOURS = {
    "multi-linear": COLOURS["allora"],
    "residual": COLOURS["allora-od"],
    "pre-layernorm": COLOURS["lora-fixed-scale"],
    "post-layernorm": COLOURS["asf-lora"],
}


@dataclass(frozen=True)
class DepthCurve:
    """Values at depth 0, 1, ... with the words written at the end."""

    values: Sequence[float]
    label: str
    colour: str
    style: str = "-"


# Of each axis: what is too small to show (a change is 0 at depth 0), and what it spans at least.
GROWTH_AXIS, CHANGE_AXIS = (0.2, 1.0, 10.0), (1e-3, 0.1, 10.0)


def in_words(value: float) -> str:
    """Return about three digits, from ten thousand up with a power of ten; rounding errors are 0."""
    if value >= 1e4:
        exponent = math.floor(math.log10(value))
        return f"{value / 10**exponent:.2f} × {power_of_ten(10.0**exponent)}"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value > 1e-9 else "0"


def limits(curves: Sequence[DepthCurve], axis: tuple[float, float, float]) -> tuple[float, float]:
    """Return limits of a logarithmic axis that hold what it spans at least and all it can show."""
    floor, bottom, top = axis
    shown = [value for curve in curves for value in curve.values if value > floor]
    return min([bottom, *shown]) / 1.5, max([top, *shown]) * 1.5


class RippleDrawing:
    """Growth beside change, each a few curves over depth; drawn once, then `update`d."""

    def __init__(self, most: int = 3) -> None:
        with lab_style():
            self.figure = Figure(figsize=(9.4, 4.0))
            growth = self.figure.add_axes((0.085, 0.14, 0.28, 0.74))
            change = self.figure.add_axes((0.58, 0.14, 0.28, 0.74))
            growth.set_title("growth of the norm")
            growth.set_ylabel("norm ÷ norm without adapters")
            change.set_title("change of the state")
            change.set_ylabel("way moved ÷ norm without adapters")
            self._sides = [(axes, _lines(axes, most)) for axes in (growth, change)]

    def update(self, growth: Sequence[DepthCurve], change: Sequence[DepthCurve]) -> Figure:
        """Show two lists of curves, of equal depth, on logarithmic axes."""
        pairs = zip(self._sides, (growth, change), (GROWTH_AXIS, CHANGE_AXIS), strict=True)
        with lab_style():
            for (axes, lines), curves, axis in pairs:
                for number, line in enumerate(lines):
                    _set(line, curves[number] if number < len(curves) else None, axis[0])
                axes.set_xlim(0, len(curves[0].values) - 1)
                axes.set_ylim(*limits(curves, axis))
                for text in list(axes.texts):
                    text.remove()
                label_ends(axes, _ends(curves, axes.get_ylim()[0]), gap=0.13)
        return self.figure


def _lines(axes: Axes, most: int) -> list[Line2D]:
    log_scale(axes)
    axes.set_xlabel("layers passed")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return [axes.plot([], [], lw=2.2, solid_capstyle="round")[0] for _ in range(most)]


def _set(line: Line2D, curve: DepthCurve | None, floor: float) -> None:
    values = np.asarray(curve.values if curve else [])
    shown = np.where(values > floor, values, np.nan)
    line.set_data(np.arange(len(values)), shown)
    if curve:
        line.set(color=curve.colour, ls=curve.style)


def _ends(curves: Sequence[DepthCurve], floor: float = 0.0) -> list[EndLabel]:
    return [
        EndLabel(len(c.values) - 1, max(c.values[-1], floor), c.label, c.colour) for c in curves
    ]


def stack_curves(
    found: Mapping[str, Sequence[float]], depth: int, *, alignment: float
) -> tuple[list[DepthCurve], list[DepthCurve]]:
    """Return what `RippleDrawing` shows of a random stack cut at `depth` layers."""

    def curve(name: str, label: str, colour: str, style: str = "-") -> DepthCurve:
        values = found[name][: depth + 1]
        return DepthCurve(values, f"{label}\n{in_words(values[-1])}", colour, style)

    aligned = f"alignment {alignment:g}"
    growth = [
        curve("aligned", aligned, ALIGNED),
        curve("random", "random", RANDOM),
        curve("bound", "bound", BOUND, "--"),
    ]
    change = [
        curve("aligned_change", aligned, ALIGNED),
        curve("random_change", "random", RANDOM),
    ]
    return growth, change


def model_curves(row: Mapping[str, Any]) -> tuple[list[DepthCurve], list[DepthCurve]]:
    """Return what `RippleDrawing` shows of a recorded model at one scaling."""

    def curve(name: str, label: str, colour: str, style: str = "-") -> DepthCurve:
        return DepthCurve(row[name], f"{label}\n{in_words(row[name][-1])}", colour, style)

    most = "95 % quantile"
    growth = [
        curve("growth", "mean over words", MODEL),
        curve("growth_high", most, MODEL, ":"),
        curve("bound", "bound", BOUND, "--"),
    ]
    change = [
        curve("change", "mean over words", MODEL),
        curve("change_high", most, MODEL, ":"),
    ]
    return growth, change


def ripple_figure(content: Mapping[str, Any]) -> Figure:
    """Return the figure of `ripple.json`: two panels of random stacks, two of the recorded model."""
    with lab_style():
        figure = Figure(figsize=(12, 8.2))
        axes = [figure.add_subplot(2, 2, number) for number in (1, 2, 3, 4)]
        setting, stacks, rows = content["setting"], content["stacks"], content["model"]
        labels = [
            _draw(axes[0], _paper_curves(stacks["multi-linear"], content["half_aligned"])),
            _draw(axes[1], _architecture_curves(stacks)),
        ]
        axes[0].lines[0].set(lw=6, alpha=0.4)
        axes[0].set_title(
            f"the paper's model, s = {setting['scaling']:g}, m = {setting['ratio']:g}"
        )
        axes[1].set_title("aligned adapters, by architecture")
        if rows:
            labels += [_draw(axes[2], _scaling_curves(rows)), _draw_accuracy(axes[3], rows)]
            axes[2].set_title("MiniLM, fine-tuned, adapters scaled after")
        figure.subplots_adjust(
            left=0.06, right=0.86, top=0.95, bottom=0.12, wspace=0.62, hspace=0.33
        )
        for drawn, ends in zip(axes, labels, strict=False):
            label_ends(drawn, ends)
    return figure


def _paper_curves(found: Mapping[str, Any], half: Sequence[float]) -> list[DepthCurve]:
    return [
        DepthCurve(found["aligned"], "aligned", ALIGNED),
        DepthCurve(half, "at a cosine of 0.5", COLOURS["allora-od"]),
        DepthCurve(found["random"], "random directions", RANDOM),
        DepthCurve(found["bound"], "bound: Π (1 + s m)", BOUND, "--"),
    ]


def _architecture_curves(stacks: Mapping[str, Any]) -> list[DepthCurve]:
    return [
        DepthCurve(stacks[name]["aligned"], label, ARCHITECTURE_COLOURS[name])
        for name, label in ARCHITECTURE_LABELS.items()
    ]


def _scaling_curves(rows: Sequence[Mapping[str, Any]]) -> list[DepthCurve]:
    curves, by_scaling = [], {row["scaling"]: row for row in rows}
    for scaling, colour in ((1, MODEL), (4, COLOURS["lora-fixed-scale"]), (16, COLOURS["lora"])):
        row = by_scaling[scaling]
        curves.append(DepthCurve(row["bound"], f"bound, s = {scaling}", colour, "--"))
        curves.append(DepthCurve(row["growth"], f"measured, s = {scaling}", colour))
    return curves


def _draw(axes: Axes, curves: Sequence[DepthCurve]) -> list[EndLabel]:
    for curve in curves:
        axes.plot(curve.values, color=curve.colour, ls=curve.style, lw=2.2)
    log_scale(axes)
    axes.set_xlim(0, len(curves[0].values) - 1)
    axes.set_ylim(*limits(curves, GROWTH_AXIS))
    axes.set_xlabel("layers passed")
    axes.set_ylabel("norm ÷ norm without adapters")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _ends(curves)


def _draw_accuracy(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> list[EndLabel]:
    places = np.arange(len(rows))
    accuracies = np.array([row["accuracies"] for row in rows])
    means = accuracies.mean(axis=1)
    axes.plot(places, accuracies, color="#BBBBBB", lw=1, zorder=1)
    axes.plot(places, means, "o-", color=MODEL, lw=2.2)
    words = [f"{row['scaling']:g}\n{100 * row['change'][-1]:.0f} %" for row in rows]
    axes.set_xticks(places, words)
    axes.set_xlabel("scaling s of the trained adapters\n(below: change of the last hidden states)")
    axes.set_ylabel("accuracy on held-out sentences")
    axes.set_title("what the scaling does to the task")
    return [EndLabel(len(rows) - 1, means[-1].item(), "mean accuracy;\ngrey: seeds", MODEL)]
