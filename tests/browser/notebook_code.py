"""What a notebook's code puts into the page, found without a browser: its panels, built again here.

Such a twin of a panel is moved as the panel in the page is, and says what must stand there.
"""

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import ipywidgets as widgets

from allora_lab.panels.base import _label
from allora_lab.panels.picture import plain

KINDS = {
    "slider": (widgets.SelectionSlider, widgets.IntSlider, widgets.FloatSlider),
    "menu": (widgets.Dropdown,),
    "radio": (widgets.RadioButtons,),
    "checkbox": (widgets.Checkbox,),
    "number": (widgets.BoundedIntText, widgets.BoundedFloatText),
    "text": (widgets.Text, widgets.Textarea),
    "button": (widgets.Button,),
}
SILENT = (
    *(widgets.Box, widgets.HTML, widgets.HTMLMath, widgets.Label),
    *(widgets.IntProgress, widgets.FloatProgress),
)
NOT_WORDS = {"allora-picture", "allora-tools"}


@dataclass(frozen=True)
class Twin:
    """A panel as the notebook's code makes it."""

    name: str
    widget: widgets.Widget

    def every(self) -> Iterator[widgets.Widget]:
        """Yield the widgets inside, in the order of the page."""
        waiting = [self.widget]
        while waiting:
            widget = waiting.pop()
            yield widget
            waiting += reversed(getattr(widget, "children", ()))

    def controls(self) -> list[tuple[str, widgets.Widget]]:
        """Return each control with its kind; a widget of no known kind is an error."""
        found = []
        for widget in self.every():
            kinds = [kind for kind, classes in KINDS.items() if isinstance(widget, classes)]
            assert kinds or isinstance(widget, SILENT), f"no test moves a {type(widget).__name__}"
            found += [(kind, widget) for kind in kinds]
        return found

    def words(self) -> list[str]:
        """Return each text in the panel, without marks and spaces."""
        return [
            squeezed(plain(widget.value))
            for widget in self.every()
            if type(widget) is not widgets.HTMLMath
            and isinstance(widget, widgets.HTML)
            and not NOT_WORDS & set(widget._dom_classes)
        ]

    def sliders(self) -> list[tuple[str, str]]:
        """Return each slider's label, and the value beside it."""
        every = [widget for kind, widget in self.controls() if kind == "slider"]
        return [(widget.description, _label(widget)) for widget in every]

    def pictures(self) -> list[widgets.Widget]:
        """Return the pictures in the panel."""
        return [w for w in self.every() if "allora-picture" in getattr(w, "_dom_classes", ())]

    def has_reset(self) -> bool:
        """Return whether a button puts the controls back."""
        return any(kind == "button" and w.description == "Reset" for kind, w in self.controls())


def squeezed(text: str) -> str:
    """Return a text without spaces, which a page may break as it likes."""
    return "".join(text.split())


def twins_of(path: Path) -> list[Twin]:
    """Return a twin of every panel that a notebook's cells end in, in their order."""
    classes: dict[str, type] = {}
    calls: dict[str, ast.Call] = {}
    shown = []
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        body = ast.parse("".join(cell["source"])).body
        for statement in body:
            classes |= _panel_classes(statement)
            calls |= _panels_made(statement, classes)
        last = body[-1].value if isinstance(body[-1], ast.Expr) else None
        if isinstance(last, ast.Name) and last.id in calls:
            shown.append(calls[last.id])
        elif _is_call_of(last, classes):
            shown.append(last)
    return [_built(call, classes) for call in shown]


def _panel_classes(statement: ast.stmt) -> dict[str, type]:
    if not isinstance(statement, ast.ImportFrom) or ".panels." not in (statement.module or ""):
        return {}
    module = import_module(statement.module)
    values = {alias.asname or alias.name: getattr(module, alias.name) for alias in statement.names}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, type) and issubclass(value, widgets.Widget)
    }


def _panels_made(statement: ast.stmt, classes: dict[str, type]) -> dict[str, ast.Call]:
    if not isinstance(statement, ast.Assign) or not _is_call_of(statement.value, classes):
        return {}
    return {target.id: statement.value for target in statement.targets}


def _is_call_of(node: ast.expr | None, classes: dict[str, type]) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes
    )


def _built(call: ast.Call, classes: dict[str, type]) -> Twin:
    code = compile(ast.fix_missing_locations(ast.Expression(call)), "a notebook's cell", "eval")
    return Twin(call.func.id, eval(code, dict(classes)))
