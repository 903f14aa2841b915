"""A picture with words for those who cannot see it, and a caption that is read out when it changes.

ipywidgets' own Image has no alternative text.  These two are its HTML widget with another value in
Python than in the page: there the bytes stand in an `<img>` and the caption in a live region.

ipywidgets puts HTML into the page as it is, so every text that a panel shows goes through `safe`.
"""

import base64
import html
import io
import re
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure
from traitlets import Bunch, Bytes, Unicode, validate

from allora_lab.panels.names import NAME_SLIDERS
from allora_lab.plots.style import lab_style

MEDIA_TYPES = {"svg": "image/svg+xml", "png": "image/png"}
INLINE = r"</?(?:a|b|code|em|i|span|strong|sub|sup)\b[^>]*>"  # marks that part no words
SAFE = r"</?(?:b|br|code|em|i|li|ol|p|small|strong|sub|sup|ul)>"  # marks that can do nothing
LOOK = "display:block;max-width:100%;height:auto;background:white;border-radius:4px"


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


def stacked_svgs(pictures: Sequence[bytes]) -> bytes:
    """Return SVGs one below the other as one, each moved down by what stands above it."""
    width, top, parts = 0.0, 0.0, []
    for picture in pictures:
        element = picture[picture.index(b"<svg ") :].decode()
        size = re.match(r'<svg [^>]*?width="([\d.]+)pt" height="([\d.]+)pt"', element)
        parts.append(element.replace("<svg ", f'<svg y="{top:g}pt" ', 1))
        width, top = max(width, float(size[1])), top + float(size[2])
    box = f'width="{width:g}pt" height="{top:g}pt"'
    whole = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{"".join(parts)}</svg>'
    return whole.encode()


def plain(words: str) -> str:
    """Return HTML without its marks, as one line of text; what begins a line is a word of its own."""
    without_marks = re.sub(INLINE, "", words)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", without_marks)).split())


def safe(words: str) -> str:
    """Return HTML that is safe to show: marks of emphasis and lists stay, the rest becomes text.

    A mark with an attribute, such as `onerror`, is text too.  Entities stay what they are.
    """
    marks, texts = re.findall(SAFE, words), re.split(SAFE, words)
    escaped = [html.escape(html.unescape(text), quote=False) for text in texts]
    return "".join(text + mark for text, mark in zip(escaped, [*marks, ""], strict=True))


def _img(value: bytes, picture: "Picture") -> str:
    if not value:
        return ""
    source = f"data:{MEDIA_TYPES[picture.format]};base64,{base64.b64encode(value).decode()}"
    words, script = html.escape(picture.words), html.escape(NAME_SLIDERS)
    return f'<img alt="{words}" src="{source}" style="{LOOK}" onload="{script}">'


def _live_region(value: str, _caption: "Caption") -> str:
    return f'<div role="status" aria-live="polite">{value}</div>'


class Picture(widgets.HTML):
    """The bytes of a picture, "svg" or "png", and its alternative text.

    Attributes
    ----------
    value, format, words
        The picture's bytes, what they are, and the words for a reader who cannot see them.
    """

    value = Bytes().tag(sync=True, to_json=_img)

    def __init__(self, **settings: Any) -> None:
        self.format, self.words = "svg", ""
        super().__init__(**settings)
        self.add_class("allora-picture")

    def show(self, value: bytes, words: str, picture_format: str = "svg") -> None:
        """Show other bytes, and say in words what they show; sent to the page together."""
        has_other_words = words != self.words
        self.words, self.format = words, picture_format
        if value != self.value:
            self.value = value
        elif has_other_words:
            self.send_state("value")


class Caption(widgets.HTML):
    """Words (HTML, made `safe`) that a screen reader reads out when they change."""

    value = Unicode().tag(sync=True, to_json=_live_region)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_class("allora-caption")

    @validate("value")
    def _safe_value(self, proposal: Bunch) -> str:
        return safe(proposal["value"])
