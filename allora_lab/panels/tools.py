"""What stands under a picture: Save SVG, Save PNG, and how it is computed.

The links save what the page shows, without asking the kernel: the picture's own bytes, or those
drawn on a canvas at twice their size.
"""

import html
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets

PANEL = "allora-panel"  # the class of an element that holds one picture and its tools
_PICTURE = f"const i=this.closest('.{PANEL}').querySelector('.allora-picture img');"
_SVG = f"{_PICTURE}this.href=i.src"
_PNG = (
    f"{_PICTURE}const c=document.createElement('canvas'),w=2*i.naturalWidth,h=2*i.naturalHeight;"
    "c.width=w;c.height=h;c.getContext('2d').drawImage(i,0,0,w,h);this.href=c.toDataURL()"
)
_STYLE = f"""<style>
.{PANEL}.{PANEL}.{PANEL} :focus-visible:focus-visible {{outline: 2px solid var(--jp-brand-color1, #1976d2) !important; outline-offset: 2px}}
.{PANEL} a {{color: var(--jp-content-link-color, #1976d2); margin-right: 1em}}
.{PANEL} pre {{white-space: pre-wrap; line-height: 1.3; margin: 0.3em 0 0.6em; padding-left: 1em}}
</style>"""


def save_links(name: str) -> str:
    """Return two links that save the panel's picture as NAME.svg and NAME.png."""
    file = html.escape(name)
    return "".join(
        f'<a href="#" download="{file}.{kind}" onclick="{html.escape(script)}">Save {kind.upper()}</a>'
        for kind, script in (("svg", _SVG), ("png", _PNG))
    )


def source_link(function: Callable[..., Any]) -> str:
    """Return `module.function`, as a link to its file where the notebook lies beside the package.

    The link is relative to the notebook's own address, so it also opens below Binder's prefix.
    """
    module = sys.modules[function.__module__]
    name = f"<code>{function.__module__}.{function.__name__}</code>"
    path = Path(*function.__module__.split(".")).with_suffix(".py")
    beside = Path("..") / path
    if not (beside.exists() and beside.samefile(module.__file__ or "")):
        return name
    return f'<a href="{beside.as_posix()}" target="_blank">{name}</a>'


def how_computed(functions: Sequence[Callable[..., Any]]) -> str:
    """Return the functions behind a picture, each with its docstring, folded."""
    if not functions:
        return ""
    parts = (
        f"{source_link(function)}<pre>{html.escape(inspect.getdoc(function) or '')}</pre>"
        for function in functions
    )
    return f"<details><summary>How it is computed</summary>{''.join(parts)}</details>"


def tools(name: str, functions: Sequence[Callable[..., Any]] = ()) -> widgets.HTML:
    """Return what stands under a picture; with no name, there is no picture to save."""
    links = save_links(name) if name else ""
    found = widgets.HTML(f"{_STYLE}{links}{how_computed(functions)}")
    found.add_class("allora-tools")
    return found
