"""A panel: controls, the picture they change, and a caption that says it in words.

A panel holds no mathematics.  It hands the values of its controls to a function that returns a
figure and a caption; `HTML` widgets show them, for they work wherever widgets do.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from allora_lab.panels.picture import Caption, Picture, plain, png_of, svg_of
from allora_lab.panels.tools import PANEL, tools

__all__ = ["REDRAWING", "Panel", "choice", "menu", "png_of", "reset_button", "svg_of"]

REDRAWING = threading.RLock()  # of all panels: matplotlib's settings are global
LABELS = {"description_width": "10.5em"}
WIDE = widgets.Layout(width="26em")


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


def reset_button() -> widgets.Button:
    """Return the button that puts every control of a panel back."""
    return widgets.Button(description="Reset", tooltip="put every control back")


def _label(control: widgets.Widget) -> str:
    """Return what a control stands at, as the page shows it."""
    if getattr(control, "index", None) is None:
        return str(control.value)
    return control._options_labels[control.index]  # `label` is empty until the first change


class Panel(widgets.VBox):
    """Controls above, picture below, caption under it, and Reset; tools to save it, and its source.

    Parameters
    ----------
    controls
        Widgets by name; each has a `value`.
    draw
        From the controls' values, by name, to a figure and a caption (HTML).
    computed_by
        The functions that compute what is drawn, for readers who want to look.
    """

    def __init__(
        self,
        controls: Mapping[str, widgets.Widget],
        draw: Callable[..., tuple[Figure, str]],
        columns: int = 2,
        computed_by: Sequence[Callable[..., Any]] = (),
    ) -> None:
        self.controls = dict(controls)
        self.picture, self.caption, self.reset = Picture(), Caption(), reset_button()
        self.tools = tools(draw.__module__.rpartition(".")[2], computed_by)
        self._draw = draw
        self._is_resetting = False
        self._start = self.values()
        rows = list(self.controls.values())
        grid = [widgets.HBox(rows[i : i + columns]) for i in range(0, len(rows), columns)]
        super().__init__([*grid, self.reset, self.picture, self.caption, self.tools])
        self.add_class(PANEL)
        for control in rows:
            control.observe(self._on_change, names="value")
        self.reset.on_click(self._on_reset)
        self.refresh()

    def values(self) -> dict[str, Any]:
        """Return the controls' values by name."""
        return {name: control.value for name, control in self.controls.items()}

    def refresh(self) -> None:
        """Redraw from the controls' current values; safe to call from a run's own thread."""
        with REDRAWING:
            self.figure, caption = self._draw(**self.values())
            self.caption.value = caption
            self.picture.show(svg_of(self.figure), self.words())

    def words(self) -> str:
        """Return the picture's alternative text: its caption, and how the controls stand."""
        stand = (
            f"{control.description} {_label(control)}"
            for control in self.controls.values()
            if not control.disabled
        )
        return f"{plain(self.caption.value)} Controls: {'; '.join(stand)}."

    def png(self) -> bytes:
        """Return the picture as a PNG, for a page that is read without a kernel."""
        return png_of(self.figure)

    def _on_change(self, _change: object) -> None:
        if not self._is_resetting:
            self.refresh()

    def _on_reset(self, _button: object) -> None:
        self._is_resetting = True  # one picture at the end, not one a control
        for name, value in self._start.items():
            self.controls[name].value = value
        self._is_resetting = False
        self.refresh()
