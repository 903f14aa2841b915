"""A panel: controls, the picture they change, and a caption that says it in words.

A panel holds no mathematics.  It hands the values of its controls to a function that returns a
figure and a caption; `Image` and `HTML` widgets show them, for they work wherever widgets do.
"""

import io
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from allora_lab.plots.style import lab_style

LABELS = {"description_width": "8.5em"}
WIDE = widgets.Layout(width="24em")


def png_of(figure: Figure, dpi: int = 100) -> bytes:
    """Return a figure as the bytes of a PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi)
    return stream.getvalue()


def svg_of(figure: Figure) -> bytes:
    """Return a figure as SVG whose words stay words: twice as fast to draw as a PNG, and sharp."""
    stream = io.StringIO()
    with lab_style():
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue().encode()


def choice(label: str, options: Sequence[Any], value: object, tip: str = "") -> widgets.Widget:
    """Return a slider over a few given values."""
    return widgets.SelectionSlider(
        options=options, value=value, description=label, style=LABELS, layout=WIDE, tooltip=tip
    )


def menu(label: str, options: Mapping[str, Any], value: object, tip: str = "") -> widgets.Widget:
    """Return a drop-down list from words to values."""
    return widgets.Dropdown(
        options=options, value=value, description=label, style=LABELS, layout=WIDE, tooltip=tip
    )


class Panel(widgets.VBox):
    """Controls above, picture below, caption under it, and Reset.

    Parameters
    ----------
    controls
        Widgets by name; each has a `value`.
    draw
        From the controls' values, by name, to a figure and a caption (HTML).
    """

    def __init__(
        self,
        controls: Mapping[str, widgets.Widget],
        draw: Callable[..., tuple[Figure, str]],
        columns: int = 2,
    ) -> None:
        self.controls = dict(controls)
        self.picture = widgets.Image(format="svg+xml", layout=widgets.Layout(max_width="100%"))
        self.caption = widgets.HTML()
        self.reset = widgets.Button(description="Reset", tooltip="put every control back")
        self._draw = draw
        self._redrawing = threading.RLock()  # one figure, and matplotlib's settings are global
        self._start = self.values()
        rows = list(self.controls.values())
        grid = [widgets.HBox(rows[i : i + columns]) for i in range(0, len(rows), columns)]
        super().__init__([*grid, self.reset, self.picture, self.caption])
        for control in rows:
            control.observe(self._on_change, names="value")
        self.reset.on_click(self._on_reset)
        self.refresh()

    def values(self) -> dict[str, Any]:
        """Return the controls' values by name."""
        return {name: control.value for name, control in self.controls.items()}

    def refresh(self) -> None:
        """Redraw from the controls' current values; safe to call from a run's own thread."""
        with self._redrawing:
            self.figure, caption = self._draw(**self.values())
            self.picture.value = svg_of(self.figure)
            self.caption.value = caption

    def png(self) -> bytes:
        """Return the picture as a PNG, for a page that is read without a kernel."""
        return png_of(self.figure)

    def _on_change(self, _change: object) -> None:
        self.refresh()

    def _on_reset(self, _button: object) -> None:
        for name, value in self._start.items():
            self.controls[name].value = value
