"""A run that moves ranks, in four pictures: the map, the scores, new ranks' norms, accuracies."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from allora_lab.plots.rank_map import draw_map
from allora_lab.plots.style import COLOURS, EndLabel, lab_style, label_ends

BIRTHS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7A5195", "#8C8C8C")


def draw_scores(axes: Axes, scores: Mapping[str, float]) -> None:
    """Draw how far each module's mean score lies above or below the mean of all."""
    names = list(scores)
    middle = fmean(scores.values()) if scores else 0.0
    values = [scores[name] - middle for name in names]
    colours = ["#0072B2" if value >= 0 else "#D55E00" for value in values]
    axes.barh(range(len(names)), values, color=colours)
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.invert_yaxis()
    axes.axvline(0, color="#555555", lw=0.8)
    axes.set_title("mean score, less the mean over modules", fontsize="small")
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))


def draw_births(axes: Axes, norms: Mapping[str, Sequence[Any]], until: int | None) -> None:
    """Draw the mean norm of the ranks born in each round, from their birth on."""
    steps = norms.get("step", [])
    rows = norms.get("by_birth", [])
    labels = []
    most = max(map(len, rows), default=0)
    for birth in range(most):
        points = [
            (step, row[birth])
            for step, row in zip(steps, rows, strict=True)
            if len(row) > birth and row[birth] is not None and (until is None or step <= until)
        ]
        if not points:
            continue
        colour = BIRTHS[birth % len(BIRTHS)]
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", ms=3)
        name = "from the start" if birth == 0 else f"of round {birth}"
        labels.append(EndLabel(*points[-1], name, colour))
    axes.set_xlabel("optimizer steps done", fontsize="small")
    axes.set_title("mean norm of a rank's part of ΔW", fontsize="small")
    axes.set_ylim(bottom=0)
    if labels:
        label_ends(axes, labels, gap=0.1)


Budgets = Mapping[str, tuple[str, Mapping[int, Sequence[float]]]]  # by method: name, accuracies


def draw_budgets(axes: Axes, lines: Budgets, here: int, data: str) -> None:
    """Draw final test accuracy on some data by budget: a dot per seed, a line of means per method."""
    labels = []
    for method, (name, points) in lines.items():
        colour = COLOURS[method]
        dots = [(budget, value) for budget, values in points.items() for value in values]
        if points:
            axes.plot(*zip(*dots, strict=True), "o", color=colour, ms=3, alpha=0.45)
            means = [fmean(values) for values in points.values()]
            axes.plot(list(points), means, color=colour, lw=2)
            labels.append(EndLabel(list(points)[-1], means[-1], name, colour))
    axes.set_xscale("log", base=2)
    shown = sorted({here, *(budget for _, points in lines.values() for budget in points)})
    axes.set_xticks(shown, [str(budget) for budget in shown])
    axes.axvline(here, color="#BBBBBB", lw=6, alpha=0.5, zorder=0)
    axes.set_xlabel("ranks in all", fontsize="small")
    axes.set_title(f"{data}, recorded: accuracy at the end, %", fontsize="small")
    if labels:
        label_ends(axes, labels, gap=0.1)
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color="#777777")


def allocation_figure(view: Mapping[str, Any]) -> Figure:
    """Return the four pictures of a view.

    Its keys: `map`, `largest`, `scores`, `norms`, `until`, `budgets`, `budget`, `budgets_data`.
    """
    with lab_style():
        figure = Figure(figsize=(9.6, 6.4))
        boxes = ((0.19, 0.56, 0.26, 0.36), (0.66, 0.58, 0.3, 0.32))
        low = ((0.07, 0.09, 0.3, 0.34), (0.58, 0.09, 0.26, 0.34))
        maps, scores, births, budgets = (figure.add_axes(box) for box in (*boxes, *low))
        draw_map(maps, view["map"], view["largest"])
        draw_scores(scores, view["scores"])
        draw_births(births, view["norms"], view["until"])
        draw_budgets(budgets, view["budgets"], view["budget"], view["budgets_data"])
    return figure


def empty_figure(words: str) -> Figure:
    """Return a figure as large as `allocation_figure` with nothing in it but some words."""
    with lab_style():
        figure = Figure(figsize=(9.6, 6.4))
        figure.text(0.5, 0.5, words, ha="center", va="center", color="#555555")
    return figure
