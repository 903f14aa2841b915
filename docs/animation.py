"""Make `docs/escape.gif`: notebook 06's panel while its slider is moved, in twenty seconds.

    python docs/animation.py

Every frame is the panel's own picture of a recorded run, under a drawing of its controls.
"""

import io
import re
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from allora_lab.panels.escape import ETA_SQUARED, EscapePanel
from allora_lab.plots.style import lab_style

OUT = Path(__file__).parent / "escape.gif"
SECONDS, LAST, DPI = 1.1, 2.6, 80
STOPS = [e for e in ETA_SQUARED if e >= 1]
SCENES = (
    ("sgd", "allora", "Under SGD, ALLoRA escapes as fast as LoRA with η times its rate."),
    ("adamw", "allora", "Under AdamW the slider does nothing: Adam divides the factor out again."),
    ("adamw", "allora-update", "Put on Adam's update (our form), the escape is back."),
)


def controls(eta_squared: float, optimizer: str, method: str, words: str) -> Image.Image:
    """Return a drawing of the slider at its stop, what is chosen, and what to look at."""
    with lab_style():
        figure = Figure(figsize=(8.6, 1.0))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.axis("off")
        axes.text(0.03, 0.72, words, fontsize=12.5, weight="bold", va="center")
        axes.text(0.03, 0.22, f"{optimizer}   {method}", fontsize=11, va="center")
        left, right = 0.52, 0.88
        axes.plot([left, right], [0.22, 0.22], color="#BBBBBB", lw=5, solid_capstyle="round")
        share = STOPS.index(eta_squared) / (len(STOPS) - 1)
        axes.plot(left + share * (right - left), 0.22, "o", color="#1976D2", ms=15)
        axes.text(left - 0.02, 0.22, "η²", ha="right", va="center", fontsize=12)
        axes.text(right + 0.03, 0.22, f"{eta_squared:g}", va="center", fontsize=12)
        return drawn(figure)


def drawn(figure: Figure) -> Image.Image:
    """Return a figure as an image."""
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", dpi=DPI)
    return Image.open(stream).convert("RGB")


def frame(panel: EscapePanel, words: str) -> Image.Image:
    """Return the panel as it stands, under its controls."""
    boxes = panel.panel.controls
    above = controls(
        boxes["eta_squared"].value, boxes["optimizer"].label, boxes["method"].label, words
    )
    below = drawn(panel.panel.figure)
    whole = Image.new("RGB", (max(above.width, below.width), above.height + below.height), "white")
    whole.paste(above, (0, 0))
    whole.paste(below, (0, above.height))
    return whole


def main() -> None:
    """Write the animation, and say how long and how large it is."""
    panel = EscapePanel()
    frames, seconds = [], []
    for optimizer, method, words in SCENES:
        panel.panel.reset.click()
        panel.panel.controls["optimizer"].value = optimizer
        panel.panel.controls["method"].value = method
        for eta_squared in STOPS:
            panel.panel.controls["eta_squared"].value = eta_squared
            caption = re.sub("<[^>]+>", "", panel.panel.caption.value)
            if "No run of this setting" in caption:
                raise SystemExit(f"not recorded: {optimizer}, {method}, {eta_squared}: {caption}")
            frames.append(frame(panel, words))
            seconds.append(SECONDS)
        seconds[-1] = LAST
    palette = [one.quantize(64, dither=Image.Dither.NONE) for one in frames]
    times = [round(1000 * s) for s in seconds]
    palette[0].save(OUT, save_all=True, append_images=palette[1:], duration=times, loop=0)
    print(
        f"wrote {OUT.name}: {len(frames)} frames, {sum(seconds):.0f} s, {OUT.stat().st_size / 1024:.0f} kB"
    )


if __name__ == "__main__":
    main()
