"""`.. every file of PART` in a page becomes one `automodule` for each file of `allora_lab/PART`.

`.. every file of PART but NAME` leaves one out, whose functions stand on another page.
"""

import re
from pathlib import Path

from sphinx.application import Sphinx

PACKAGE = Path(__file__).parents[2] / "allora_lab"


def _automodules(line: re.Match[str]) -> str:
    """Return the directives of one part's files: what the others stand on first, then by name."""
    names = [path.stem for path in (PACKAGE / line[1]).glob("[a-z]*.py") if path.stem != line[2]]
    ordered = sorted(names, key=lambda name: (name != "base", name))
    return "\n".join(
        f".. automodule:: allora_lab.{line[1]}.{name}\n   :members:" for name in ordered
    )


def _expand(_app: Sphinx, _page: str, source: list[str]) -> None:
    source[0] = re.sub(
        r"^\.\. every file of (\w+)(?: but (\w+))?$", _automodules, source[0], flags=re.MULTILINE
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the expansion to Sphinx."""
    app.connect("source-read", _expand)
    return {"parallel_read_safe": True}
