"""Pictures that are stored in notebooks: PNGs of few colours, of less than half of the bytes."""

import io
from collections.abc import Sequence

from matplotlib.figure import Figure
from PIL import Image as Pixels

COLOURS = 128


def small_png(figures: Sequence[Figure], dpi: int = 100) -> bytes:
    """Return figures one below the other as one PNG of at most COLOURS colours."""
    pages = [_pixels(figure, dpi) for figure in figures]
    size = max(page.width for page in pages), sum(page.height for page in pages)
    whole, top = Pixels.new("RGB", size, "white"), 0
    for page in pages:
        whole.paste(page, (0, top))
        top += page.height
    stream = io.BytesIO()
    # this method keeps the rare colours, such as a single dot's
    few = whole.quantize(COLOURS, Pixels.Quantize.MAXCOVERAGE, dither=Pixels.Dither.NONE)
    few.save(stream, "PNG")
    return stream.getvalue()


def _pixels(figure: Figure, dpi: int) -> Pixels.Image:
    """Return a figure drawn at some dots an inch, without the detour by a PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="rgba", dpi=dpi)
    size = tuple(int(length * dpi) for length in figure.get_size_inches())
    return Pixels.frombuffer("RGBA", size, stream.getvalue()).convert("RGB")
