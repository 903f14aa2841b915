"""The panel's picture: the distribution over epochs, and its histogram at one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from allora_lab.plots.gradient_variance import BANDS, BLUE, GREY, LINES, ORANGE, UNIT
from allora_lab.plots.style import lab_style, log_scale, spread

LIMITS = (1e-6, 0.1)  # of the standard deviation, for every setting: pictures can be compared
LABELS = (*((name, words, colour) for name, words, colour, *_ in LINES), ("q99", "99 %", BLUE))
LABELS = (*LABELS, ("q01", "1 %", BLUE))


@dataclass(frozen=True)
class VarianceView:
    """What is drawn of a recorded run: curves by name, and one histogram an epoch.

    `epochs` is empty where nothing is recorded; `curves` has the quantiles, `mean` and `max`.
    """

    epochs: Sequence[int]
    curves: Mapping[str, Sequence[float]]
    histograms: Sequence[Sequence[int]]


class VarianceDrawing:
    """A figure drawn once; `update` changes its data, which is faster than drawing anew.

    Parameters
    ----------
    last_epoch
        Where the axis of epochs ends.
    log10_edges
        The edges of the histograms' bins, in powers of ten.
    """

    def __init__(self, last_epoch: int, log10_edges: Sequence[float]) -> None:
        edges = np.asarray(log10_edges)
        low, high = (int(np.argmin(abs(edges - np.log10(limit)))) for limit in LIMITS)
        self._bins, self._edges = slice(low, high), edges[low : high + 1]  # those on the axis
        with lab_style():
            self.figure = Figure(figsize=(9.4, 3.9))
            self._over_time = self.figure.add_axes((0.085, 0.14, 0.46, 0.76))
            self._histogram = self.figure.add_axes((0.7, 0.14, 0.28, 0.76))
            self._fill_over_time(self._over_time, last_epoch)
            self._fill_histogram(self._histogram)
            for axes, left in ((self._over_time, -0.11), (self._histogram, -0.13)):
                axes.yaxis.set_label_coords(left, 0.5)  # fixed: else measured at every draw
                axes.xaxis.set_label_coords(0.5, -0.1)

    def _fill_over_time(self, axes: Axes, last_epoch: int) -> None:
        log_scale(axes)
        axes.set(xlabel="training epochs done", ylabel=UNIT, ylim=LIMITS, xlim=(0, last_epoch))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_title("distribution over entries", fontsize="medium")
        here = [0, 0], [LIMITS[0], LIMITS[0]]
        self._bands = [
            axes.fill(*here, color=BLUE, alpha=opacity, lw=0)[0] for *_, opacity in BANDS
        ]
        self._lines = {
            name: axes.plot([], [], color=colour, ls=style, lw=width)[0]
            for name, _, colour, style, width in LINES
        }
        self._live = {
            name: axes.plot([], [], ":", marker="o", ms=3.5, color="black")[0]
            for name in ("mean", "max")
        }
        self._here = axes.axvline(0, color=GREY, lw=1)
        inside = axes.get_xaxis_transform()
        self._names = [
            axes.text(0, 0, words, color=colour, fontsize="small", va="center", transform=inside)
            for _, words, colour in LABELS
        ]
        self._nothing = axes.text(
            0.5, 0.5, "not recorded", color=GREY, ha="center", transform=axes.transAxes
        )

    def _fill_histogram(self, axes: Axes) -> None:
        log_scale(axes, "x")
        axes.grid(visible=False)
        axes.xaxis.set_major_locator(FixedLocator([1e-6, 1e-5, 1e-4, 1e-3, 1e-2]))
        axes.set(xlim=LIMITS, xlabel=UNIT, ylabel="% of entries, bins of 0.1 decade")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_title("at this epoch", fontsize="medium")
        empty, edges = np.zeros(len(self._edges) - 1), 10**self._edges
        self._start = axes.stairs(empty, edges, color=GREY, lw=1.2)
        self._now = axes.stairs(empty, edges, color=BLUE, fill=True, alpha=0.45)
        (self._worst,) = axes.plot([], [], "v", color=ORANGE, ms=8, clip_on=False)
        self._words = axes.text(
            0.03, 0.97, "", transform=axes.transAxes, va="top", fontsize="small", color=GREY
        )

    def update(
        self,
        view: VarianceView,
        epoch: int,
        live: Mapping[str, Sequence[float]] | None = None,
    ) -> Figure:
        """Show a run at an epoch, the last recorded one if that is earlier; `live` has its curves.

        `live` is from `epoch`, `mean` and `max` to lists of equal length.
        """
        live = live or {"epoch": [], "mean": [], "max": []}
        for name, points in self._live.items():
            points.set_data(live["epoch"], live[name])
        is_there = bool(view.epochs)
        for artist in (*self._bands, *self._lines.values(), *self._names, self._worst):
            artist.set_visible(is_there)
        self._nothing.set_visible(not is_there)
        if is_there:
            self._show_curves(view)
            self._show_histogram(view, min(epoch, view.epochs[-1]))
        else:
            self._start.set_data(np.zeros(len(self._edges) - 1))
            self._now.set_data(np.zeros(len(self._edges) - 1))
            self._words.set_text("")
        shown = min(epoch, view.epochs[-1]) if is_there else epoch
        self._here.set_xdata([shown, shown])
        return self.figure

    def _show_curves(self, view: VarianceView) -> None:
        low_limit = LIMITS[0] / 10  # zeros have no logarithm; below the axes is far enough
        for band, (low, high, _) in zip(self._bands, BANDS, strict=True):
            below = np.maximum(view.curves[low], low_limit)
            above = np.maximum(view.curves[high], low_limit)
            x = np.concatenate([view.epochs, view.epochs[::-1]])
            band.set_xy(np.column_stack([x, np.concatenate([below, above[::-1]])]))
        for name, line in self._lines.items():
            line.set_data(view.epochs, view.curves[name])
        heights = [self._height(view.curves[name][-1]) for name, *_ in LABELS]
        for text, place in zip(self._names, spread(heights, 0.065), strict=True):
            text.set_position((view.epochs[-1] + 0.3, place))

    @staticmethod
    def _height(value: float) -> float:
        """Return where a standard deviation stands on the axis, from 0 to 1."""
        low, high = np.log10(LIMITS)
        return float(np.clip((np.log10(max(value, 1e-12)) - low) / (high - low), 0, 1))

    def _show_histogram(self, view: VarianceView, epoch: int) -> None:
        counts = [np.array(view.histograms[e]) for e in (0, epoch)]
        start, now = (100 * (c / max(c.sum(), 1))[self._bins] for c in counts)
        self._start.set_data(start)
        self._now.set_data(now)
        self._histogram.set_ylim(0, 1.15 * max(start.max(), now.max()))
        self._worst.set_data([view.curves["max"][epoch]], [0])
        self._words.set_text(f"blue: epoch {epoch}\ngrey: the start\n▼ the largest")
