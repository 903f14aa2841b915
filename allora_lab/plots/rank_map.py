"""Ranks by module and block as squares of colour, one map a method, and what it led to below."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from allora_lab.plots.style import lab_style

MAPS_A_ROW = 4
CELL = 0.34  # inches
MARK = "#D55E00"
PALE, DARK = "#FFFFFF", "#0B3C5D"
COLOURS = mpl.colors.LinearSegmentedColormap.from_list("ranks", [PALE, "#56B4E9", DARK])

Map = Mapping[str, Any]  # title, note, modules, blocks, ranks [module][block], marked


def draw_map(
    axes: Axes, panel: Map, largest: float, *, names: bool = True, inches: float = 4.0
) -> None:
    """Draw one map: modules down, blocks across, the mean number of ranks in every square.

    Squares in `marked`, as (module, block), are framed; the title is wrapped to some inches.
    """
    ranks, modules, blocks = panel["ranks"], panel["modules"], panel["blocks"]
    axes.imshow(ranks, cmap=COLOURS, vmin=0, vmax=largest, aspect="equal")
    for i, row in enumerate(ranks):
        for j, value in enumerate(row):
            colour = "white" if value > 0.6 * largest else "#222222"
            axes.text(j, i, f"{value:.3g}", ha="center", va="center", size=7, color=colour)
    for module, block in panel["marked"]:
        corner = blocks.index(block) - 0.5, modules.index(module) - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=MARK, linewidth=2.2))
    axes.set_xticks(range(len(blocks)), [str(block) for block in blocks], fontsize="x-small")
    axes.set_yticks(
        range(len(modules)), modules if names else [""] * len(modules), fontsize="small"
    )
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(textwrap.fill(panel["title"], int(inches / 0.09)), fontsize="small")
    axes.set_xlabel(panel["note"], fontsize="x-small", loc="left")


def rank_map_figure(content: Mapping[str, Any]) -> Figure:
    """Return the maps of a content, in rows of MAPS_A_ROW, in one scale of colours."""
    groups: Sequence[Mapping[str, Any]] = content["groups"]
    rows = [
        (group, group["panels"][i : i + MAPS_A_ROW])
        for group in groups
        for i in range(0, len(group["panels"]), MAPS_A_ROW)
    ]
    with lab_style():
        left, gap, head, foot = 1.9, 0.75, 0.45, 0.72
        widths = [max(len(p["blocks"]) for p in panels) * CELL for _, panels in rows]
        heights = [max(len(p["modules"]) for p in panels) * CELL for _, panels in rows]
        width = left + max(
            len(panels) * (w + gap) for (_, panels), w in zip(rows, widths, strict=True)
        )
        titled = [i == 0 or rows[i - 1][0] is not group for i, (group, _) in enumerate(rows)]
        height = sum(h + head + foot for h in heights) + 0.35 * sum(titled) + 0.15
        figure = Figure(figsize=(width, height))
        top = height - 0.1
        for (group, panels), w, h, is_first in zip(rows, widths, heights, titled, strict=True):
            if is_first:
                figure.text(0.12 / width, (top - 0.2) / height, group["title"], weight="bold")
                top -= 0.35
            for place, panel in enumerate(panels):
                x = left + place * (w + gap)
                box = (x / width, (top - head - h) / height, w / width, h / height)
                draw_map(
                    figure.add_axes(box),
                    panel,
                    group["largest"],
                    names=place == 0,
                    inches=w + gap,
                )
            top -= h + head + foot
    return figure
