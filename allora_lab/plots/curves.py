"""Recorded curves in panels: a line of means, its band, its name at its end."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from allora_lab.plots.layout import (
    LINE_POINTS,
    fit_panels,
    number_axis,
    short_number,
    title_axes,
)
from allora_lab.plots.style import COLOURS, EndLabel, lab_style, label_ends

# Six places of matplotlib's inferno in equal steps of lightness, from contrast 3 to white down:
# neighbours differ for readers with any of the three kinds of colour blindness, and in grey.
SEQUENCE = ("#ef6e21", "#d54a41", "#ad305d", "#7d1e6d", "#4f0d6c", "#230c4c")
PAPER = "#222222"
LOG_BASES = {"linear": None, "log2": 2, "log10": 10}
PANEL_SIZE = (4.2, 3.4)  # inches, of the axes alone
MANY_POINTS = 12  # from here on points are no larger than their line
FEW_POINTS = 7  # up to here a linear axis has its ticks at the points


def colour_of(key: str | int) -> str:
    """Return the colour of a method's key, of a place 0 to 5 in an ordered sequence, or of "paper".

    Raises
    ------
    ValueError
        For anything else.
    """
    if key == "paper":
        return PAPER
    if isinstance(key, str) and key in COLOURS:
        return COLOURS[key]
    if isinstance(key, int) and 0 <= key < len(SEQUENCE):
        return SEQUENCE[key]
    raise ValueError(
        f"unknown colour {key!r}: give a method's key ({', '.join(COLOURS)}), a place 0 to "
        f"{len(SEQUENCE) - 1} in an ordered sequence, or 'paper'"
    )


def _points(line: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, mean and half as floats, NaN where unknown; a line needs one known mean."""
    x, mean = (np.array(line[name], dtype=float) for name in ("x", "mean"))
    half = line.get("half")
    half = np.full(len(x), np.nan) if half is None else np.array(half, dtype=float)
    if not len(x) == len(mean) == len(half):
        raise ValueError(
            f"line {line['label']!r} has {len(x)} x, {len(mean)} means and {len(half)} halves: "
            "give as many of each"
        )
    if not np.isfinite(mean).any():
        raise ValueError(f"line {line['label']!r} has no mean that is known: leave the line out")
    return x, mean, half


def y_reach(panels: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the limits of y that hold every band of some panels, with room above and below."""
    ends = []
    for line in (line for panel in panels for line in panel["lines"]):
        _, mean, half = _points(line)
        half = np.nan_to_num(half)
        ends += [np.nanmin(mean - half), np.nanmax(mean + half)]
    if not ends:
        raise ValueError("a panel has no line: give at least one")
    room = 0.06 * (max(ends) - min(ends)) or 0.06 * abs(max(ends)) or 1.0
    return float(min(ends) - room), float(max(ends) + room)


def _apart(x: np.ndarray, places: np.ndarray, inches: float) -> list[float]:
    """Return the x whose labels have room on an axis so long; `places` are x as the axis scales it."""
    longest = max(len(short_number(float(value))) for value in x)
    gap = np.ptp(places) * (0.09 * longest + 0.12) / inches
    kept: list[int] = []
    for index in range(len(x)):
        if not kept or places[index] - places[kept[-1]] >= gap:
            kept.append(index)
    return x[kept].tolist()


def _scale_x(axes: Axes, panel: Mapping[str, Any], x: np.ndarray) -> None:
    """Set the scale of x; the ticks stand at the points themselves where these are few."""
    scale = panel.get("x_scale", "linear")
    if scale not in LOG_BASES:
        raise ValueError(f"unknown x_scale {scale!r}: choose one of {', '.join(LOG_BASES)}")
    base = LOG_BASES[scale]
    if base and x[0] <= 0:
        raise ValueError(
            f"panel {panel['title']!r} has x = {x[0]:g}, which has no place on a logarithmic axis: "
            "set x_scale to 'linear', or leave that point out"
        )
    if base:
        axes.set_xscale("log", base=base)
        axes.xaxis.set_major_locator(LogLocator(base))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(short_number)
    else:
        number_axis(axes.xaxis, float(np.abs(x).max()), integer=bool((x == x.round()).all()))
    if len(x) <= (MANY_POINTS if base else FEW_POINTS):
        inches = axes.bbox.width / axes.figure.dpi
        axes.xaxis.set_major_locator(FixedLocator(_apart(x, np.log(x) if base else x, inches)))


def _draw_line(axes: Axes, line: Mapping[str, Any], opacity: float) -> EndLabel:
    """Draw a line, its band and its marks; return the name to write at its end."""
    x, mean, half = _points(line)
    colour = colour_of(line["colour"])
    is_dashed = line["colour"] == "paper" or bool(line.get("dashed"))
    has_band = np.isfinite(mean) & np.isfinite(half)
    around = np.pad(has_band, 1)
    is_alone = has_band & ~around[:-2] & ~around[2:]  # a band of one point would not be seen
    if (has_band & ~is_alone).any():
        axes.fill_between(
            x, mean - half, mean + half, where=has_band, color=colour, alpha=opacity, lw=0
        )
    if is_alone.any():
        axes.errorbar(
            x[is_alone], mean[is_alone], half[is_alone], fmt="none", ecolor=colour, capsize=4
        )
    axes.plot(
        x,
        mean,
        color=colour,
        ls="--" if is_dashed else "-",
        mfc="white" if is_dashed else colour,
        lw=2,
        marker="o",
        ms=4.5 if len(x) <= MANY_POINTS else 2,
        solid_capstyle="round",
    )
    for mark in line.get("marks") or ():
        found = np.flatnonzero(np.isclose(x, mark) & np.isfinite(mean))
        if not len(found):
            raise ValueError(
                f"line {line['label']!r} has no known point at the mark x = {mark:g}: "
                "mark one of its own x"
            )
        axes.plot(x[found[0]], mean[found[0]], "o", color=colour, ms=10, mec="white", zorder=3)
    last = np.flatnonzero(np.isfinite(mean))[-1]
    return EndLabel(float(x[last]), float(mean[last]), line["label"], colour)


def curve_axes(
    axes: Axes, panel: Mapping[str, Any], y_limits: tuple[float, float] | None = None
) -> None:
    """Draw one panel of `curves_figure` into given axes; its names stand to the right of them.

    `y_limits` are those of y; None fits them to the panel's bands.

    Raises
    ------
    ValueError
        Without a line; for an unknown colour or scale, lists of unequal length, a mark beside the
        line's points, or an x at or below 0 on a logarithmic axis.
    """
    low, high = y_limits or y_reach([panel])
    x = np.unique(np.concatenate([_points(line)[0] for line in panel["lines"]]))
    _scale_x(axes, panel, x)
    opacity = min(0.13, 0.35 / len(panel["lines"]))  # bands of many lines lie over each other
    ends = [_draw_line(axes, line, opacity) for line in panel["lines"]]
    axes.set_xmargin(0.04)
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(low, high)
    number_axis(axes.yaxis, max(abs(low), abs(high)))
    axes.set(xlabel=panel["x_label"], ylabel=panel["y_label"])
    box = axes.bbox
    title_axes(axes, panel["title"], box.width / axes.figure.dpi)
    label_ends(axes, ends, gap=_points_high(panel) * axes.figure.dpi / 72 / box.height)


def _points_high(panel: Mapping[str, Any]) -> float:
    """Return the points from name to name that the panel's tallest name needs."""
    return LINE_POINTS * max((1 + ln["label"].count("\n") for ln in panel["lines"]), default=1)


def _band_note(content: Mapping[str, Any]) -> str:
    """Return what the bands and the large dots are, where there are any and it is known."""
    lines = [line for panel in content["panels"] for line in panel["lines"]]
    notes = [content.get("note", "")]
    has_bands = any(np.isfinite(_points(line)[2]).any() for line in lines)
    if has_bands and content.get("seeds"):
        notes.insert(0, f"band: 95 % interval of the mean over {content['seeds']} seeds")
    return "; ".join(note for note in notes if note)


def curves_figure(content: Mapping[str, Any]) -> Figure:
    """Return panels of curves, in rows, from content that JSON can hold.

    `panels` is a list of dicts: `title`, `x_label`, `y_label`, `x_scale` ("linear", "log2" or
    "log10"), `share_y` (whether its limits of y are those of the others that say so), and `lines`.
    A line has a `label`, a `colour` (a method's key, a place 0 to 5 in an ordered sequence, or
    "paper"), `x`, `mean`, `half` (of the 95 % interval; None where none is known), `marks`, the x
    of points to draw larger, and `dashed`, to tell it from another of its colour.  None among `mean` or `half` is a gap.  `seeds` and `note`, where
    given, are written below.

    Raises
    ------
    ValueError
        Without a panel, or as `curve_axes`.
    """
    panels = content["panels"]
    if not panels:
        raise ValueError("there is no panel to draw: give at least one")
    shared = [panel for panel in panels if panel.get("share_y")]
    limits = y_reach(shared) if shared else None
    width, height = PANEL_SIZE
    height = max([height, *(len(p["lines"]) * _points_high(p) / 72 for p in panels)])
    with lab_style():
        figure = Figure(figsize=(10, 10))
        for panel in panels:
            axes = figure.add_axes((0.3, 0.3, width / 10, height / 10))
            curve_axes(axes, panel, limits if panel.get("share_y") else None)
        fit_panels(figure, _band_note(content))
    return figure
