"""How panels of any size are put in rows on one figure, and numbers and titles written around them."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from allora_lab.plots.style import SUPERSCRIPTS

GREY = "#777777"
LINE_POINTS = 13.5  # from line to line of small text
WIDEST = 16.5  # inches that three panels side by side may take
GAP, EDGE = 0.35, 0.12  # inches between panels, and around all


def short_number(value: float, _place: int | None = None) -> str:
    """Return a number as a tick's label, as 2 · 10⁻⁷ where it is below 10⁻⁴ or from 10⁶ up."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:.10g}".replace("-", "−")
    mantissa, exponent = f"{value:.9e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".").replace("-", "−")
    power = f"10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    return power if mantissa == "1" else f"{mantissa} · {power}"


def number_axis(axis: Axis, reach: float, *, integer: bool = False) -> None:
    """Give a linear axis that goes to ± `reach` ticks with room for their labels, each by itself."""
    most = 6 if 0.1 <= reach < 1e4 else 3
    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10], integer=integer))
    axis.set_major_formatter(short_number)


def title_axes(axes: Axes, title: str, inches: float, left: float = 0.0) -> None:
    """Write a panel's title over a width, in as many lines as it takes, from `left` inches on."""
    width = axes.bbox.width / axes.figure.dpi
    words = textwrap.fill(title, max(16, int(inches / 0.1)))
    axes.set_title(words, fontsize="medium", x=left / width)


@dataclass(frozen=True)
class _Panel:
    """A panel's axes and how far it reaches from their upper left corner, in inches."""

    axes: Axes
    left: float
    right: float
    above: float
    below: float

    @classmethod
    def of(cls, axes: Axes) -> "_Panel":
        """Measure axes with all that is written around them."""
        box, tight, dpi = axes.bbox.frozen(), axes.get_tightbbox(), axes.figure.dpi
        reach = (box.x0 - tight.x0, tight.x1 - box.x0, tight.y1 - box.y1, box.y1 - tight.y0)
        return cls(axes, *(length / dpi for length in reach))


def rows_of(widths: Sequence[float]) -> list[range]:
    """Return which panels stand in which row: three a row if they are narrow enough, else two.

    Rows are as even as they can be, so that four panels are two rows of two.  Lengths in inches.
    """
    n = len(widths)
    triples = (sum(widths[i : i + 3]) + GAP * (len(widths[i : i + 3]) - 1) for i in range(0, n, 3))
    most = 3 if all(width <= WIDEST for width in triples) else 2
    rows = -(-n // most)
    each = -(-n // rows)
    return [range(start, min(start + each, n)) for start in range(0, n, each)]


def fit_panels(figure: Figure, note: str = "") -> None:
    """Make a figure as large as its axes, all that is written around them, and a note below.

    The axes keep their sizes; they stand in rows (see `rows_of`), in a row their tops in one line and
    below each other their left sides.
    """
    panels = [_Panel.of(axes) for axes in figure.axes]
    rows = [[panels[i] for i in row] for row in rows_of([p.left + p.right for p in panels])]
    columns = [[row[c] for row in rows if c < len(row)] for c in range(len(rows[0]))]
    lefts = [max(panel.left for panel in column) for column in columns]
    widths = [
        left + max(p.right for p in column) for left, column in zip(lefts, columns, strict=True)
    ]
    width = sum(widths) + GAP * (len(columns) - 1) + 2 * EDGE
    note = textwrap.fill(note, max(20, int(width / 0.075)))
    foot = (note.count("\n") + 1) * LINE_POINTS / 72 + 0.1 if note else 0.0
    heights = [max(p.above for p in row) + max(p.below for p in row) for row in rows]
    height = sum(heights) + GAP * (len(rows) - 1) + foot + 2 * EDGE
    sizes = [panel.axes.bbox.size / figure.dpi / (width, height) for panel in panels]
    figure.set_size_inches(width, height)
    top, size = height - EDGE, iter(sizes)
    for row, tall in zip(rows, heights, strict=True):
        above = max(panel.above for panel in row)
        for c, panel in enumerate(row):
            wide, high = next(size)
            left = EDGE + sum(widths[:c]) + GAP * c + lefts[c]
            panel.axes.set_position((left / width, (top - above) / height - high, wide, high))
        top -= tall + GAP
    figure.text(EDGE / width, EDGE / height, note, fontsize="small", color=GREY, va="bottom")
