"""The built site stands alone: what it links to is there, and nothing comes from another host.

`make site` builds `out/site` and runs these; other test runs leave them out.
"""

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
SITE = ROOT / "out" / "site"
PAGES = sorted(SITE.rglob("*.html"))
LOADED = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("object", "data"),
}
STORED = len(list((ROOT / "notebooks").glob("*.ipynb")))

pytestmark = pytest.mark.site


class Page(HTMLParser):
    """The ids of a page, what it links to, what a browser loads to show it, and pictures' words."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.pictures = set(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        if attrs.get("href") is not None:
            (self.loads if tag == "link" else self.links).append(attrs["href"])
        self.pictures += [attrs.get("alt")] if tag == "img" else []
        self.loads += [attrs[name] for t, name in LOADED if t == tag and attrs.get(name)]


@cache
def parsed(path):
    return Page(path.read_text())


def test_every_notebook_and_page_is_built():
    assert len(list((SITE / "notebooks").glob("*.html"))) == STORED >= 11
    for name in ("index", "running", "api", "api_parts"):
        assert (SITE / "docs" / "site" / f"{name}.html").is_file()


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(SITE)))
def test_every_relative_link_resolves(path):
    page = parsed(path)
    for link in page.links + page.loads:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        assert target.exists(), link
        if parts.fragment and target.suffix == ".html" and parts.fragment != "top":
            assert unquote(parts.fragment) in parsed(target).ids, link


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(SITE)))
def test_nothing_is_loaded_from_another_host(path):
    for address in parsed(path).loads:
        assert urlsplit(address).scheme in ("", "data"), address
        assert not urlsplit(address).netloc, address
    assert "widget-view+json" not in path.read_text()


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(SITE)))
def test_every_picture_is_told_in_words(path):
    if path.name != "py-modindex.html":  # its pictures are Sphinx's own
        assert all(words and len(words) > 20 for words in parsed(path).pictures)


def test_style_sheets_load_nothing_from_another_host():
    for path in SITE.rglob("*.css"):
        for address in re.findall(
            r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", path.read_text()
        ):
            assert not re.match(r"(https?:)?//", "".join(address)), path.name


@pytest.mark.parametrize("path", sorted((SITE / "notebooks").glob("*.html")), ids=lambda p: p.stem)
def test_a_notebook_shows_its_questions_and_what_it_stored(path):
    text = path.read_text()
    assert "Show the feedback" in text
    assert "run the notebook</a>" in text or "VBox(" not in text
    assert not re.search(r"\w+\(children=\(", text)  # a widget's name in place of a widget


@pytest.mark.parametrize("path", sorted((SITE / "notebooks").glob("*.html")), ids=lambda p: p.stem)
def test_a_formula_in_a_stored_table_is_not_shown_as_latex(path):
    cells = re.findall(r"<td.*?</td>", path.read_text(), re.DOTALL)
    assert not [cell for cell in cells if re.search(r"\$[^$<]*\\\w+", cell)]


@pytest.mark.parametrize("path", sorted((SITE / "notebooks").glob("*.html")), ids=lambda p: p.stem)
def test_a_table_is_shown_as_one(path):
    assert not re.search(r"<p>\s*\|", path.read_text())  # Markdown that was not understood
