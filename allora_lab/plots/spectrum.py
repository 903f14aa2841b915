"""The panel's picture: eigenvalues in V with the time each direction takes, and those in (A, B)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from allora_lab.plots.style import lab_style, log_scale, power_of_ten

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#555555"
LOWEST, HIGHEST, FLOOR = 1e-3, 2e3, 3e-3  # the axis of eigenvalues; zeros are drawn at FLOOR


class SpectrumDrawing:
    """A figure drawn once; `update` changes its numbers, which is faster than drawing anew."""

    def __init__(self) -> None:
        with lab_style():
            self.figure = Figure(figsize=(10, 4.3))
            self._convex = self.figure.add_axes((0.075, 0.14, 0.35, 0.75))
            self._joint = self.figure.add_axes((0.62, 0.14, 0.36, 0.75))
            self._prepare_convex(self._convex)
            self._prepare_joint(self._joint)

    def _prepare_convex(self, axes: Axes) -> None:
        self._band = axes.axhspan(1, 2, color="#E6E6E6", lw=0)
        (self._alive,) = axes.plot([], [], "o", color=BLUE, ms=4.5)
        (self._flat,) = axes.plot([], [], "o", color=ORANGE, ms=4.5, mfc="white")
        log_scale(axes)
        axes.set_yticks([0.01, 1, 100])  # few ticks: each costs a millisecond at every redraw
        axes.set_ylim(LOWEST, HIGHEST)
        self._title = axes.set_title("")
        axes.set(xlabel="direction, steepest first", ylabel="eigenvalue h of 2 XᵀX")
        self._never = axes.text(0.97, 0.12, "", transform=axes.transAxes, ha="right", color=ORANGE)
        times = axes.twinx()  # the same points, read as ln(100) / h
        times.set_yscale("log")
        times.set_yticks([0.1, 10, 1000])
        times.set_ylim(math.log(100) / LOWEST, math.log(100) / HIGHEST)
        times.yaxis.set_major_formatter(power_of_ten)
        times.yaxis.set_minor_locator(NullLocator())
        times.set_ylabel("time to 1 % of the error")
        times.grid(visible=False)

    def _prepare_joint(self, axes: Axes) -> None:
        axes.axhline(0, color="black", lw=0.8)
        (self._zero,) = axes.step([], [], where="mid", color=BLUE, lw=5, alpha=0.4)
        (self._start,) = axes.step([], [], where="mid", color=ORANGE, lw=1.8)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set(xlabel="direction in (A, B), lowest first", ylabel="eigenvalue")
        axes.set_title("In A and B")
        place = {"transform": axes.transAxes, "va": "top"}
        self._of_zero = axes.text(0.05, 0.97, "at (0, 0): gradient 0", color=BLUE, **place)
        self._of_start = axes.text(0.05, 0.89, "", color=ORANGE, **place)

    def update(
        self, convex: Mapping[str, Any], zero: Mapping[str, Any], start: Mapping[str, Any]
    ) -> Figure:
        """Show `convex_case`, and `joint_case` at (0, 0) and at (A, B = 0)."""
        h = np.array(convex["eigenvalues"])
        index = np.arange(1, len(h) + 1)
        self._alive.set_data(index[h > 0], h[h > 0])
        self._flat.set_data(index[h == 0], np.full((h == 0).sum(), FLOOR))
        low, high = convex["edges"]
        self._band.set_y(max(low, LOWEST))
        self._band.set_height(high - max(low, LOWEST))
        self._convex.set_xlim(0.3, len(h) + 0.7)
        self._convex.set_xticks([1, len(h) // 2, len(h)])
        self._title.set_text(f"In V: rank {convex['rank']} of {convex['size']}")
        flat = int((h == 0).sum())
        self._never.set_text(f"{flat} of {len(h)} at 0: they never move" if flat else "")
        for line, case in ((self._zero, zero), (self._start, start)):
            line.set_data(np.arange(1, len(case["eigenvalues"]) + 1), case["eigenvalues"])
        every = np.array([zero["eigenvalues"], start["eigenvalues"]])
        self._joint.set_xlim(0, every.shape[1] + 1)
        self._joint.set_xticks([1, every.shape[1]])
        self._joint.set_ylim(1.15 * every.min(), 1.35 * every.max())
        self._of_start.set_text(f"at (A, B = 0): ‖∇B‖ = {start['gradient_B']:.3g}")
        return self.figure
