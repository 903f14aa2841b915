"""Panel of notebook 07: each of ALLoRA's experiments as a picture and sentences, from its records."""

import html
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import ipywidgets as widgets
import matplotlib as mpl
from IPython.display import Image, display
from matplotlib.figure import Figure

from allora_lab.experiments.ablation import ablation_content, components_content
from allora_lab.experiments.accuracy_curves import data_size_content, ranks_content
from allora_lab.experiments.dropout_epochs import dropout_epochs_content
from allora_lab.experiments.flaws import flaws_content
from allora_lab.experiments.learning_rates import learning_rate_content
from allora_lab.experiments.perception import perception_content
from allora_lab.experiments.stability import stability_content
from allora_lab.experiments.statistics import adjusted, paired
from allora_lab.panels.base import REDRAWING, Panel, menu, svg_of
from allora_lab.panels.picture import stacked_svgs
from allora_lab.panels.small_png import small_png
from allora_lab.plots.curves import curves_figure
from allora_lab.plots.forest import forest_figure

PAPER = "The paper"  # so begin the titles of its panels, and the sentences on its numbers
PER_ROW = 2  # panels side by side: more are too small to read in a notebook
DPI = 80
TEXT_WIDTH = 100


@dataclass(frozen=True)
class Experiment:
    """One experiment: its name for people, what its records show, and how that is drawn."""

    title: str
    content: Callable[[], dict[str, Any]]
    draw: Callable[[Mapping[str, Any]], Figure]


EXPERIMENTS = {
    "learning-rate": Experiment("which learning rate", learning_rate_content, curves_figure),
    "perception": Experiment("ALLoRA against LoRA", perception_content, forest_figure),
    "ablation": Experiment("ALLoRA against its variants", ablation_content, forest_figure),
    "ranks": Experiment("rank by rank", ranks_content, curves_figure),
    "dropout-epochs": Experiment("dropout over ten epochs", dropout_epochs_content, curves_figure),
    "stability": Experiment("ALLoRA over ten epochs", stability_content, curves_figure),
    "components": Experiment("one change at a time", components_content, forest_figure),
    "data-size": Experiment("how much data", data_size_content, curves_figure),
    "flaws": Experiment("the three flaws", flaws_content, curves_figure),
}


@cache
def content_of(name: str) -> dict[str, Any]:
    """Return what the records of an experiment show, read once; `content_of.cache_clear()` forgets.

    Raises
    ------
    FileNotFoundError
        If no run of it is recorded; one sentence says how to record them.
    ValueError
        For an experiment that does not exist.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"unknown experiment {name!r}: choose one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name].content()


def is_of_paper(panel: Mapping[str, Any]) -> bool:
    """Return whether a panel of a content shows the paper's numbers."""
    return panel["title"].startswith(PAPER)


def sentences_of(name: str, *, with_paper: bool = True) -> list[str]:
    """Return an experiment in words, with the sentences on the paper's numbers or without."""
    said = content_of(name)["sentences"]
    return [text for text in said if with_paper or not text.startswith(PAPER)]


@cache
def figures_of(name: str, *, with_paper: bool = True) -> tuple[Figure, ...]:
    """Return an experiment's rows of figures, two panels a row, the paper's beside our first.

    Drawn once.  Raises as `content_of`.
    """
    content = content_of(name)
    ours = [panel for panel in content["panels"] if not is_of_paper(panel)]
    papers = [panel for panel in content["panels"] if is_of_paper(panel)]
    panels = [*ours[:1], *papers, *ours[1:]] if with_paper else ours
    rows = [panels[i : i + PER_ROW] for i in range(0, len(panels), PER_ROW)]
    with mpl.rc_context({"figure.dpi": DPI}):  # texts are then measured for the size they get
        return tuple(EXPERIMENTS[name].draw({**content, "panels": row}) for row in rows)


@cache
def picture_of(name: str, *, with_paper: bool = True) -> bytes:
    """Return an experiment's picture as a PNG of few colours, for a page that is stored."""
    return small_png(figures_of(name, with_paper=with_paper), DPI)


@cache
def drawing_of(name: str, *, with_paper: bool = True) -> bytes:
    """Return an experiment's picture as an SVG."""
    return stacked_svgs([svg_of(figure) for figure in figures_of(name, with_paper=with_paper)])


def show(name: str) -> None:
    """Display an experiment's picture and print its sentences, or the one that says what is missing.

    Raises
    ------
    ValueError
        For an experiment that does not exist.
    """
    try:
        said = sentences_of(name)
    except FileNotFoundError as missing:
        said = [str(missing)]
    else:
        display(Image(picture_of(name), alt=" ".join(said)))
    print("\n".join(textwrap.fill(text, TEXT_WIDTH, subsequent_indent="    ") for text in said))


class ResultsPanel(Panel):
    """Which experiment, and whether the paper's numbers stand beside ours.

    Each picture is drawn once: they have too many marks to draw at every change.
    """

    def __init__(self) -> None:
        titles = {experiment.title: name for name, experiment in EXPERIMENTS.items()}
        super().__init__(
            {
                "experiment": menu("experiment", titles, "perception"),
                "paper": widgets.Checkbox(value=True, description="with the paper", indent=False),
            },
            self._show,
            computed_by=(paired, adjusted),
        )

    def refresh(self) -> None:
        """Show the picture and the words of the controls' current values."""
        with REDRAWING:
            picture, self.caption.value = self._show(**self.values())
            self.picture.show(picture, self.words())
            self.picture.layout.display = None if picture else "none"

    def png(self) -> bytes:
        """Return the picture as a PNG; empty where nothing is recorded."""
        if not self.picture.value:
            return b""
        values = self.values()
        return picture_of(values["experiment"], with_paper=self._with_paper(**values))

    def _with_paper(self, experiment: str, paper: bool) -> bool:
        return paper or not any(is_of_paper(panel) for panel in content_of(experiment)["panels"])

    def _show(self, experiment: str, paper: bool) -> tuple[bytes, str]:
        try:
            panels = content_of(experiment)["panels"]
        except FileNotFoundError as missing:
            self.controls["paper"].disabled = True
            return b"", html.escape(str(missing))
        has_paper = any(is_of_paper(panel) for panel in panels)
        self.controls["paper"].disabled = not has_paper
        shown = {"with_paper": self._with_paper(experiment, paper)}
        said = (f"<li>{html.escape(text)}</li>" for text in sentences_of(experiment, **shown))
        return drawing_of(experiment, **shown), f"<ul>{''.join(said)}</ul>"
