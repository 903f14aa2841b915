"""A panel's picture for a cell, drawn without moving the panel on the page."""

from typing import Any

from IPython.display import Image

from allora_lab.panels.base import Panel


def still(panel: Panel, **values: Any) -> Image:
    """Return a panel's picture at some values of its controls, with its caption as alternative text.

    Cells give it a panel of their own, so the panel on the page keeps the state its text describes.
    """
    for name, value in values.items():
        panel.controls[name].value = value
    return Image(panel.png(), alt=panel.words())
