"""The table of figures: what each shows, how its numbers come about, how they are drawn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from allora_lab.config import RunConfig
from allora_lab.experiments.adaptive_rate import adaptive_rate_content
from allora_lab.experiments.demo import demo_summary, run_demo
from allora_lab.experiments.dropout_ols import dropout_ols_content
from allora_lab.experiments.gradient_variance import gradient_variance_content, run_bar
from allora_lab.experiments.hessian import hessian_content
from allora_lab.experiments.ripple import ripple_content
from allora_lab.plots.adaptive_rate import adaptive_rate_figure
from allora_lab.plots.dropout_ols import dropout_ols_figure
from allora_lab.plots.escape import escape_figure
from allora_lab.plots.gradient_variance import gradient_variance_figure
from allora_lab.plots.hessian import hessian_figure
from allora_lab.plots.ripple import ripple_figure
from allora_lab.training.checkpoint import Progress

OnRun = Callable[[int, int, RunConfig], Callable[[Progress], None]]


@dataclass(frozen=True)
class FigureInfo:
    """One row of the table.

    `compute` (device, whether to train anew what is recorded, progress of the escape runs) gives
    what `NAME.json` holds, with `sentences` that say it in words; `draw` makes the picture from
    that alone.
    """

    description: str
    compute: Callable[[str, bool, OnRun], dict[str, Any]]
    draw: Callable[[Mapping[str, Any]], Figure]


def _escape(device: str, fresh: bool, on_run: OnRun) -> dict[str, Any]:
    return demo_summary(run_demo(device=device, reuse_records=not fresh, on_run=on_run))


def _gradient_variance(device: str, fresh: bool, _on_run: OnRun) -> dict[str, Any]:
    return gradient_variance_content(device=device, fresh=fresh, on_run=run_bar)


FIGURES: dict[str, FigureInfo] = {
    "escape": FigureInfo(
        "how LoRA's and ALLoRA's norms escape from zero, under SGD and AdamW",
        _escape,
        lambda content: escape_figure(content["runs"]),
    ),
    "dropout-ols": FigureInfo(
        "what dropout adds on average, which ridge it equals, and how far N draws or steps stray",
        lambda _device, _fresh, _on_run: dropout_ols_content(),
        dropout_ols_figure,
    ),
    "hessian": FigureInfo(
        "where the Hessian in V is singular, and whether LoRA starts at a saddle",
        lambda _device, _fresh, _on_run: hessian_content(),
        hessian_figure,
    ),
    "ripple": FigureInfo(
        "how the norms of adapted layers grow through depth, against the paper's bound",
        lambda _device, _fresh, _on_run: ripple_content(),
        ripple_figure,
    ),
    "gradient-variance": FigureInfo(
        "how far dropout masks move an MLP's gradient while it trains (Figure 1)",
        _gradient_variance,
        gradient_variance_figure,
    ),
    "adaptive-rate": FigureInfo(
        "the adaptive function (Figure 5), its family, and how a row leaves zero",
        lambda _device, _fresh, _on_run: adaptive_rate_content(),
        adaptive_rate_figure,
    ),
}
