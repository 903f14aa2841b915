"""The panel's picture: noise over N beside the effect of dropout, and what W keeps along each direction."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from allora_lab.plots.style import lab_style, log_scale
from allora_lab.theory.mean_of_draws import NORMAL_FACTOR

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
MOST = 10_000.0  # steps
LOWEST, HIGHEST = 2e-3, 600.0
SMALLEST, LARGEST = 0.5, 150.0  # eigenvalues


class DropoutDrawing:
    """A figure drawn once; `update` changes its numbers, which is faster than drawing anew."""

    def __init__(self) -> None:
        with lab_style():
            self.figure = Figure(figsize=(10, 4.3))
            self._prepare_noise(self.figure.add_axes((0.07, 0.14, 0.355, 0.75)))
            self._prepare_shares(self.figure.add_axes((0.65, 0.14, 0.335, 0.75)))

    def _prepare_noise(self, axes: Axes) -> None:
        axes.axhline(1, color="black", lw=0.8)
        axes.text(MOST, 1.15, "noise = effect", ha="right", fontsize="small")
        (self._bound,) = axes.plot([], [], "--", color=GREY, lw=1.6)
        (self._limit,) = axes.plot([], [], color=BLUE, lw=1.6)
        (self._sampled,) = axes.plot([], [], "o", color=BLUE, ms=5)
        (self._moving,) = axes.plot([], [], color=ORANGE, lw=2.4)
        (self._now,) = axes.plot([], [], color="black", lw=0.8, ls=":")
        (self._here,) = axes.plot([], [], "o", color="black", ms=5, zorder=5)
        log_scale(axes, "x")
        log_scale(axes)
        axes.set_xticks([1.0, 100.0, MOST])  # few ticks: each costs a millisecond at every redraw
        axes.set_yticks([0.01, 1.0, 100.0])
        axes.set_xlim(0.8, MOST)
        axes.set_ylim(LOWEST, HIGHEST)
        axes.set(xlabel="draws, or steps, N", ylabel="noise ÷ effect of dropout")
        axes.set_title("How far one run is from the mean")
        place = {"fontsize": "small", "linespacing": 1.3}
        self._of_moving = axes.text(
            1.25 * MOST, 1, "W moves:\nN steps of SGD", color=ORANGE, **place
        )
        self._of_fixed = axes.text(1.25 * MOST, 1, "W fixed:\nmean of N draws", color=BLUE, **place)
        for text in (self._of_moving, self._of_fixed):
            text.set_verticalalignment("center")
        key = {"fontsize": "small", "bbox": {"color": "white", "pad": 1}}
        axes.text(1.1, 2 * LOWEST, "● sampled — limit", color=BLUE, **key)
        axes.text(1.1, 4.6 * LOWEST, "-- bound Std/√N", color=GREY, **key)

    def _prepare_shares(self, axes: Axes) -> None:
        axes.axhline(1, color="black", lw=0.8)
        axes.text(LARGEST, 1.02, "least squares", ha="right", fontsize="small")
        self._gaps = axes.add_collection(LineCollection([], colors=GREEN, lw=1))
        (self._ridge,) = axes.plot([], [], color=GREY, lw=2)
        (self._shares,) = axes.plot([], [], "o", color=GREEN, ms=7, zorder=4)
        log_scale(axes, "x")
        axes.set_xticks([1.0, 10.0, 100.0])
        axes.set_yticks([0, 0.5, 1])
        axes.set_xlim(SMALLEST, LARGEST)
        axes.set_ylim(-0.04, 1.32)
        axes.set(xlabel="eigenvalue h of XᵀX", ylabel="share of least squares kept")
        self._verdict = axes.set_title("")
        place = {"transform": axes.transAxes, "fontsize": "small"}
        axes.text(0.03, 0.92, "● minimiser of the expected loss", color=GREEN, **place)
        self._of_ridge = axes.text(0.03, 0.84, "", color=GREY, **place)

    def update(self, case: Mapping[str, Mapping[str, Any]], n_steps: int) -> Figure:
        """Show a `dropout_case`, with N marked."""
        self._update_noise(case["fixed"], case["moving"], n_steps)
        self._update_shares(case["shrinkage"])
        return self.figure

    def _update_noise(
        self, fixed: Mapping[str, Any], moving: Mapping[str, Any], n_steps: int
    ) -> None:
        bound, counts = fixed["std"] / fixed["added"], np.array([1.0, MOST])
        self._bound.set_data(counts, bound / np.sqrt(counts))
        self._limit.set_data(counts, NORMAL_FACTOR * bound / np.sqrt(counts))
        self._sampled.set_data(fixed["sizes"], np.array(fixed["errors"]) / fixed["added"])
        ratios = noise_to_effect(moving)
        self._moving.set_data(moving["steps"], ratios)
        here = [NORMAL_FACTOR * bound / np.sqrt(n_steps)]
        here += [ratio for n, ratio in zip(moving["steps"], ratios, strict=True) if n == n_steps]
        self._now.set_data([n_steps, n_steps], [LOWEST, HIGHEST])
        self._here.set_data([n_steps] * len(here), here)
        self._of_moving.set_y(ratios[-1])
        self._of_fixed.set_y(min(max(bound / np.sqrt(MOST), 2 * LOWEST), 0.2 * ratios[-1]))

    def _update_shares(self, shrinkage: Mapping[str, Any]) -> None:
        h, lam = np.array(shrinkage["eigenvalues"]), shrinkage["lam"]
        self._shares.set_data(h, shrinkage["shares"])
        curve = np.geomspace(SMALLEST, LARGEST, 60)
        self._ridge.set_data(curve, curve / (curve + lam))
        on_ridge = h / (h + lam)
        ends = zip(h, on_ridge, shrinkage["shares"], strict=True)
        self._gaps.set_segments([[(x, low), (x, high)] for x, low, high in ends])
        self._verdict.set_text(
            "On average: a ridge" if is_ridge(shrinkage) else "On average: no ridge"
        )
        self._of_ridge.set_text(f"— nearest ridge, λ = {lam:.3g}")


def noise_to_effect(moving: Mapping[str, Any]) -> Sequence[float]:
    """Return the spread of one run over the effect of dropout on the mean run, for each N."""
    return [s / e for s, e in zip(moving["spread"], moving["effect"], strict=True)]


def is_ridge(shrinkage: Mapping[str, Any]) -> bool:
    """Return whether some ridge is within 0.1 % of the minimiser."""
    return shrinkage["distance"] < 1e-3
