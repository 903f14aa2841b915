"""One look for every figure: colours that colour-blind readers tell apart, direct labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes

# Okabe and Ito's palette; a method has one colour wherever it is drawn.
COLOURS = {
    "lora": "#0072B2",
    "lora-fixed-scale": "#56B4E9",
    "rslora": "#8C8C8C",
    "dora": "#009E73",
    "allora": "#D55E00",
    "allora-dropout": "#A0522D",
    "allora-od": "#E69F00",
    "asf-lora": "#7A5195",
    "allora-update": "#CC79A7",
}
RC = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class EndLabel:
    """A name to write beside the end of a curve: its y in data units, its text and colour."""

    y: float
    text: str
    colour: str


def lab_style() -> mpl.rc_context:
    """Return a context in which figures have the lab's look; nothing global is changed."""
    return mpl.rc_context(RC)


def spread(positions: Sequence[float], gap: float, top: float = 1.0) -> list[float]:
    """Return positions moved apart to at least `gap`, in their order, none above `top`."""
    order = sorted(range(len(positions)), key=positions.__getitem__)
    placed = [0.0] * len(positions)
    floor = -gap
    for index in order:
        floor = placed[index] = max(positions[index], floor + gap)
    ceiling = top + gap
    for index in reversed(order):
        ceiling = placed[index] = min(placed[index], ceiling - gap)
    return placed


def label_ends(axes: Axes, labels: Sequence[EndLabel], gap: float = 0.075) -> None:
    """Write each label to the right of the axes at its curve's end, moved apart where they meet."""
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [to_axes.transform((1, label.y))[1] for label in labels]
    for label, height, place in zip(labels, heights, spread(heights, gap), strict=True):
        axes.annotate(
            label.text,
            xy=(1.0, height),
            xytext=(1.04, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=label.colour,
            va="center",
            fontsize="small",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": label.colour, "lw": 0.6},
        )
