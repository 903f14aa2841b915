"""Differences with their intervals around zero, in panels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from allora_lab.plots.layout import GREY, fit_panels, number_axis, title_axes
from allora_lab.plots.style import lab_style

Row = Mapping[str, Any]
Headings = list[tuple[float, str]]  # how far down, in rows, and what it says
ABOVE, BELOW, NEITHER = "#0072B2", "#D55E00", "#555555"
AXES_WIDTH = 3.2  # inches
ROW_HEIGHT = 0.27  # inches
GROUP_GAP = 0.5  # rows
PAD = 10  # points between the axes and what is written beside them


def number_format(rows: Sequence[Row]) -> str:
    """Return the format that shows two digits of the narrowest interval's half, as ".1f".

    Without intervals it has 2 decimals, or shows two digits of the largest mean if that is below
    0.1.  It is ".1e" where numbers would have more than 6 decimals, or go to a million.
    """
    means = [abs(row["mean"]) for row in rows]
    halves = [(row["high"] - row["low"]) / 2 for row in rows if row["low"] is not None]
    halves = [half for half in halves if half > 0]
    size = min(halves) if halves else min(0.1, max(means) or 0.1)
    decimals = max(0, 1 - math.floor(math.log10(size)))
    return ".1e" if decimals > 6 or max([*means, *halves]) >= 1e6 else f".{decimals}f"


def row_numbers(row: Row, kind: str) -> str:
    """Return "+0.3 [-1.0, 1.6]", or the mean alone where no interval is known."""
    ends = [] if row["low"] is None else [row["low"], row["high"]]
    mean, *others = (float(f"{value:{kind}}") + 0.0 for value in (row["mean"], *ends))  # no -0.0
    interval = ", ".join(f"{end:{kind}}" for end in others)
    return f"{mean:+{kind}} [{interval}]" if ends else f"{mean:+{kind}}"


def _check(row: Row) -> None:
    """Raise ValueError for half an interval, or a mean outside its interval."""
    low, mean, high = row["low"], row["mean"], row["high"]
    if (low is None) != (high is None):
        raise ValueError(f"row {row['label']!r} has one end of its interval: give both or neither")
    if not all(math.isfinite(value) for value in (low or 0.0, mean, high or 0.0)):
        raise ValueError(f"row {row['label']!r} has a number that is not finite: leave the row out")
    if low is not None and not low <= mean <= high:
        raise ValueError(
            f"row {row['label']!r} has its mean {mean:g} outside its interval {low:g} to {high:g}: "
            "low and high are the ends themselves, not distances from the mean"
        )


def _places(rows: Sequence[Row]) -> tuple[list[float], Headings, float]:
    """Return how far down each row stands, the headings, and the height, all in rows."""
    places, headings, y, group = [], [], 0.0, None
    for row in rows:
        is_new, group = row.get("group") != group, row.get("group")
        if is_new and places:
            y += GROUP_GAP
        if is_new and group:
            headings.append((y, group))
            y += 1
        places.append(y)
        y += 1
    return places, headings, y


def forest_height(panel: Mapping[str, Any]) -> float:
    """Return the inches that a panel's rows and headings take."""
    return _places(panel["rows"])[2] * ROW_HEIGHT


def _beside(axes: Axes, side: int, y: float, text: str, *, bold: bool) -> Annotation:
    """Write a text at a height of the axes: left of them (side 0) or right (side 1)."""
    return axes.annotate(
        text,
        xy=(side, y),
        xycoords=axes.get_yaxis_transform(),
        xytext=(PAD if side else -PAD, 0),
        textcoords="offset points",
        va="center",
        fontsize="small",
        fontweight="bold" if bold else "normal",
        annotation_clip=False,
    )


def _draw_row(axes: Axes, row: Row, y: float) -> None:
    """Draw a row's bar and dot: filled where the interval leaves out 0, hollow elsewhere."""
    low, mean, high = row["low"], row["mean"], row["high"]
    is_above, is_below = low is not None and low > 0, high is not None and high < 0
    colour = ABOVE if is_above else BELOW if is_below else NEITHER
    is_pooled = bool(row.get("emphasis"))
    if low is not None:
        axes.plot([low, high], [y, y], color=colour, lw=3 if is_pooled else 1.8)
    axes.plot(
        mean,
        y,
        marker="D" if is_pooled else "o",
        ms=9 if is_pooled else 7,
        mec=colour,
        mfc=colour if is_above or is_below else "white",
        mew=1.6,
        ls="none",
    )


def _write(axes: Axes, panel: Row, places: Sequence[float], headings: Headings) -> None:
    """Write labels and headings in a column at the left, numbers at the right, the title above."""
    left, right, kind = [], [], number_format(panel["rows"])
    for row, y in zip(panel["rows"], places, strict=True):
        bold = bool(row.get("emphasis"))
        left.append(_beside(axes, 0, y, row["label"], bold=bold))
        right.append(_beside(axes, 1, y, row_numbers(row, kind), bold=bold))
    for y, text in headings:
        left.append(_beside(axes, 0, y, text, bold=True))
        left[-1].set_color(GREY)
    dpi = axes.figure.dpi
    widths = [[text.get_window_extent().width / dpi for text in side] for side in (left, right)]
    start = PAD / 72 + max(widths[0])  # inches from the axes to the left
    for text in left:
        text.set_position((-72 * start, 0))
    title_axes(axes, panel["title"], start + axes.bbox.width / dpi + max(widths[1]), -start)


def forest_axes(axes: Axes, panel: Mapping[str, Any]) -> None:
    """Draw one panel of `forest_figure` into given axes.

    Labels stand to the left of the axes, numbers to their right.  The axes should be about
    `forest_height` inches high.

    Raises
    ------
    ValueError
        Without a row; for half an interval, a mean outside its interval, or a number that is not finite.
    """
    rows = panel["rows"]
    if not rows:
        raise ValueError(f"panel {panel['title']!r} has no row: give at least one")
    for row in rows:
        _check(row)
    places, headings, height = _places(rows)
    axes.axvline(0, color="black", lw=1)
    for row, y in zip(rows, places, strict=True):
        _draw_row(axes, row, y)
    ends = [0, *(row[k] for row in rows for k in ("mean", "low", "high") if row[k] is not None)]
    room = 0.07 * (max(ends) - min(ends)) or 1.0
    axes.set_xlim(min(ends) - room, max(ends) + room)
    number_axis(axes.xaxis, max(map(abs, ends)) or 1.0)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_yticks(places, [""] * len(places))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(panel["x_label"])
    _write(axes, panel, places, headings)


def _key(content: Mapping[str, Any]) -> str:
    """Return what the dots' fill and form mean, as far as they occur."""
    rows = [row for panel in content["panels"] for row in panel["rows"]]
    notes = [content.get("note", "")]
    if any(row["low"] is not None for row in rows):
        notes.append("filled: the interval leaves out 0; hollow: it does not")
    if any(row["low"] is None for row in rows):
        notes.append("no bar: none printed, or all seeds agree")
    return "; ".join(note for note in notes if note)


def forest_figure(content: Mapping[str, Any]) -> Figure:
    """Return panels of differences with intervals, in rows, from content that JSON can hold.

    `panels` is a list of dicts: `title`, `x_label` and `rows`.  A row has a `label`, `mean`, `low`
    and `high` (the ends of its interval, None where none is known), `emphasis` (true for a pooled
    row, a diamond with a bold label) and `group`: where it changes there is a gap and a heading.
    Panels have limits and heights of their own.  `note`, where given, is written below.

    Raises
    ------
    ValueError
        Without a panel, or as `forest_axes`.
    """
    panels = content["panels"]
    if not panels:
        raise ValueError("there is no panel to draw: give at least one")
    with lab_style():
        figure = Figure(figsize=(10, 10))
        for panel in panels:
            size = AXES_WIDTH / 10, forest_height(panel) / 10
            forest_axes(figure.add_axes((0.3, 0.3, *size)), panel)
        fit_panels(figure, _key(content))
    return figure
