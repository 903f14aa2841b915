"""The table of figures: what each shows, how its numbers come about, how they are drawn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from allora_lab.config import RunConfig
from allora_lab.experiments.demo import demo_summary, run_demo
from allora_lab.plots.escape import escape_figure
from allora_lab.training.checkpoint import Progress

OnRun = Callable[[int, int, RunConfig], Callable[[Progress], None]]


@dataclass(frozen=True)
class FigureInfo:
    """One row of the table.

    `compute` (device, whether to train anew what is recorded, progress) gives what `NAME.json`
    holds; `draw` makes the picture from that alone.
    """

    description: str
    compute: Callable[[str, bool, OnRun], dict[str, Any]]
    draw: Callable[[Mapping[str, Any]], Figure]


def _escape(device: str, fresh: bool, on_run: OnRun) -> dict[str, Any]:
    return demo_summary(run_demo(device=device, reuse_records=not fresh, on_run=on_run))


FIGURES: dict[str, FigureInfo] = {
    "escape": FigureInfo(
        "how LoRA's and ALLoRA's norms escape from zero, under SGD and AdamW",
        _escape,
        lambda content: escape_figure(content["runs"]),
    ),
}
