"""One look for every figure: colours that colour-blind readers tell apart, direct labels."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from allora_lab.methods import METHODS

# a method has one colour wherever it is drawn: that of its row
COLOURS = {key: method.colour for key, method in METHODS.items()}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
RC = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,  # else the grid shows through bars
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # fixed: else every draw measures all labels to place the title
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "allora_lab",  # the same picture is the same bytes
}
# a line from the label's left edge; without patchA the text would be measured and cut out each time
LEADER = {
    "arrowstyle": "-",
    "lw": 0.7,
    "relpos": (0, 0.5),
    "patchA": None,
    "shrinkA": 2,
    "shrinkB": 4,
}


@dataclass(frozen=True)
class EndLabel:
    """A name to write beside the end of a curve: where it ends in data units, text, colour."""

    x: float
    y: float
    text: str
    colour: str


def power_of_ten(value: float, _place: int | None = None) -> str:
    """Return 10ⁿ for a power of ten, as plain text: a formula would be parsed at every draw."""
    exponent = round(math.log10(value)) if value > 0 else 0
    return f"10{str(exponent).translate(SUPERSCRIPTS)}"


def log_scale(axes: Axes, which: str = "y") -> None:
    """Make an axis ("x" or "y") logarithmic to base 10, with ticks at powers of ten and no others."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(power_of_ten)
    axis.set_minor_locator(NullLocator())


def lab_style() -> AbstractContextManager[None]:
    """Return a context in which figures have the lab's look; nothing global is changed."""
    return mpl.rc_context(RC)


def spread(positions: Sequence[float], gap: float, top: float = 1.0) -> list[float]:
    """Return positions moved apart to at least `gap`, in their order, within 0 to `top`.

    They are pushed upwards, then all moved down together until their mean is where it was.  Where
    the gaps do not fit, they are as large as they can be.
    """
    gap = min(gap, top / max(1, len(positions) - 1))
    order = sorted(range(len(positions)), key=positions.__getitem__)
    placed = [0.0] * len(positions)
    floor = float("-inf")
    for index in order:
        floor = placed[index] = max(positions[index], floor + gap)
    shift = sum(placed) / len(placed) - sum(positions) / len(positions) if placed else 0.0
    shift = max(min(shift, min(placed, default=0.0)), max(placed, default=0.0) - top)
    return [place - shift for place in placed]


def label_ends(axes: Axes, labels: Sequence[EndLabel], gap: float = 0.075) -> None:
    """Write each label to the right of the axes at its curve's end, moved apart where they meet.

    Call it last: where a curve ends depends on the limits of the axes.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [min(max(to_axes.transform((lb.x, lb.y))[1], 0.0), 1.0) for lb in labels]
    for label, place in zip(labels, spread(heights, gap), strict=True):
        axes.annotate(
            label.text,
            xy=(label.x, label.y),
            xytext=(1.05, place),
            xycoords="data",
            textcoords="axes fraction",
            color=label.colour,
            va="center",
            fontsize="small",
            annotation_clip=False,
            arrowprops=LEADER | {"color": label.colour},
        )
