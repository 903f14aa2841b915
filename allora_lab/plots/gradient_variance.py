"""The distribution of the gradient's standard deviation over entries, epoch by epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from allora_lab.plots.style import EndLabel, lab_style, label_ends, log_scale

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
BANDS = (("q01", "q99", 0.15), ("q10", "q90", 0.3))  # lower and upper quantile, opacity
# name in the content, words, colour, line style, line width
LINES = (
    ("max", "largest", ORANGE, "-", 2.2),
    ("mean", "mean", "black", "--", 1.6),
    ("q50", "median", BLUE, "-", 1.6),
)
FACTORS = (
    ("max", "largest std", ORANGE),
    ("mean", "mean std", "black"),
    ("gradient_norm", "size of the\nmean gradient", GREEN),
)
UNIT = "std over masks of an entry of ∇W₂"


def draw_distribution(
    axes: Axes, epochs: Sequence[int], curves: Mapping[str, Sequence[float]]
) -> None:
    """Draw the bands of 98 % and 80 % of the entries, their median, mean and largest."""
    for low, high, opacity in BANDS:
        axes.fill_between(epochs, curves[low], curves[high], color=BLUE, alpha=opacity, lw=0)
    for name, _, colour, style, width in LINES:
        axes.plot(epochs, curves[name], color=colour, ls=style, lw=width)
    log_scale(axes)
    axes.set_xlim(epochs[0], epochs[-1])
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylim(10 ** np.floor(np.log10(max(min(curves["q01"]), 1e-9))), 2 * max(curves["max"]))


def end_labels(epochs: Sequence[int], curves: Mapping[str, Sequence[float]]) -> list[EndLabel]:
    """Return the names of the lines and bands at their ends."""
    lines = [
        EndLabel(epochs[-1], curves[name][-1], words, colour) for name, words, colour, *_ in LINES
    ]
    quantiles = (("q99", "99 %"), ("q90", "90 %"), ("q10", "10 %"), ("q01", "1 %"))
    return lines + [EndLabel(epochs[-1], curves[q][-1], words, BLUE) for q, words in quantiles]


def draw_factors(axes: Axes, row: Mapping[str, Any]) -> None:
    """Draw by what each followed quantity was multiplied since the start, with its interval."""
    epochs, ends, reach = row["epochs"], [], [1.0]
    for name, words, colour in FACTORS:
        changes = row["changes_since_start"][name]
        factor, low, high = ([1.0, *(c[k] for c in changes)] for k in ("factor", "low", "high"))
        axes.plot(epochs, factor, color=colour, lw=2)
        axes.fill_between(epochs, low, high, color=colour, alpha=0.18, lw=0)
        ends.append(EndLabel(epochs[-1], factor[-1], words, colour))
        reach += [*low, *high]
    axes.axhline(1, color=GREY, lw=0.8)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlim(epochs[0], epochs[-1])
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylim(min(reach) / 1.2, max(reach) * 1.2)
    axes.set_xlabel("training epochs done")
    label_ends(axes, ends, gap=0.16)


def gradient_variance_figure(content: Mapping[str, Any]) -> Figure:
    """Return the figure of `gradient-variance.json`: one column an image set.

    Above, the paper's Figure 1: the distribution over entries of the standard deviation, means over
    seeds.  Below, the factors since the start, with 95 % intervals over seeds.
    """
    rows = content["datasets"]
    with lab_style():
        figure = Figure(figsize=(6.4 * len(rows), 7.4))
        for index, row in enumerate(rows):
            above = figure.add_subplot(2, len(rows), index + 1)
            draw_distribution(above, row["epochs"], row["curves"])
            label_ends(above, end_labels(row["epochs"], row["curves"]), gap=0.07)
            config = row["config"]
            above.set_title(
                f"{row['label']}: dropout {config['dropout']:g}, width {config['width']}, "
                f"{len(row['seeds'])} seeds",
                fontsize="medium",
            )
            below = figure.add_subplot(2, len(rows), len(rows) + index + 1)
            draw_factors(below, row)
            if index == 0:
                above.set_ylabel(UNIT)
                below.set_ylabel("factor since the start")
        figure.subplots_adjust(
            left=0.5 / len(rows) ** 0.5 / 4,
            right=0.9,
            wspace=0.42,
            hspace=0.22,
            top=0.93,
            bottom=0.1,
        )
        notes = [f"{row['label']}: {row['note']}." for row in rows if row["note"]]
        figure.text(0.02, 0.015, " ".join(notes), fontsize="small", color=GREY)
    return figure
