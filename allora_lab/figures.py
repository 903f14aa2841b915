"""The table of figures: what each shows, how its numbers come about, how they are drawn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from allora_lab.config import RunConfig
from allora_lab.experiments.ablation import ablation_content, components_content
from allora_lab.experiments.accuracy_curves import data_size_content, ranks_content
from allora_lab.experiments.adaptive_rate import adaptive_rate_content
from allora_lab.experiments.allocation_content import allocation_content
from allora_lab.experiments.allocation_cost import allocation_cost_content
from allora_lab.experiments.cost import cost_content
from allora_lab.experiments.demo import demo_summary, run_demo
from allora_lab.experiments.dropout_epochs import dropout_epochs_content
from allora_lab.experiments.dropout_ols import dropout_ols_content
from allora_lab.experiments.flaws import flaws_content
from allora_lab.experiments.gradient_variance import gradient_variance_content, run_bar
from allora_lab.experiments.hessian import hessian_content
from allora_lab.experiments.learning_rates import learning_rate_content
from allora_lab.experiments.perception import perception_content
from allora_lab.experiments.rank_content import rank_tasks_content
from allora_lab.experiments.ripple import ripple_content
from allora_lab.experiments.stability import stability_content
from allora_lab.plots.adaptive_rate import adaptive_rate_figure
from allora_lab.plots.curves import curves_figure
from allora_lab.plots.dropout_ols import dropout_ols_figure
from allora_lab.plots.escape import escape_figure
from allora_lab.plots.forest import forest_figure
from allora_lab.plots.gradient_variance import gradient_variance_figure
from allora_lab.plots.hessian import hessian_figure
from allora_lab.plots.rank_map import rank_map_figure
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


def _of_records(
    description: str,
    content: Callable[[], dict[str, Any]],
    draw: Callable[[Mapping[str, Any]], Figure],
) -> FigureInfo:
    """Return a row of a figure that is made from a sweep's records alone."""
    return FigureInfo(description, lambda _device, _fresh, _on_run: content(), draw)


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
    "cost": FigureInfo(
        "time and memory of a step of each method, beside LoRA's",
        lambda _device, _fresh, _on_run: cost_content(),
        forest_figure,
    ),
    "allocation-cost": FigureInfo(
        "time and memory of a fine-tune whose ranks move, beside LoRA's (ALoRA's Table 4)",
        lambda _device, _fresh, _on_run: allocation_cost_content(),
        forest_figure,
    ),
    "learning-rate": _of_records(
        "accuracy by learning rate, method and optimizer: the rule the sweeps follow",
        learning_rate_content,
        curves_figure,
    ),
    "perception": _of_records(
        "ALLoRA against LoRA at eta x lr, beside the paper's (Figure 3, Table 3)",
        perception_content,
        forest_figure,
    ),
    "ablation": _of_records(
        "ALLoRA against ALLoRA-OD, ASF-LoRA and LoRA x eta (Figure 4, Table 4)",
        ablation_content,
        forest_figure,
    ),
    "components": _of_records(
        "from a common LoRA to ALLoRA, one step at a time",
        components_content,
        forest_figure,
    ),
    "dropout-epochs": _of_records(
        "LoRA with dropout over ten epochs (Figure 2 left, Table 2)",
        dropout_epochs_content,
        curves_figure,
    ),
    "stability": _of_records(
        "ALLoRA over ten epochs: whether the adaptive rate is stable",
        stability_content,
        curves_figure,
    ),
    "ranks": _of_records(
        "LoRA, DoRA and ALLoRA by rank, beside the paper's",
        ranks_content,
        curves_figure,
    ),
    "data-size": _of_records(
        "accuracy after one epoch by how many sentences there are",
        data_size_content,
        curves_figure,
    ),
    "allocation": FigureInfo(
        "where ranks end on MiniLM by method, with accuracy, and ALoRA against its rivals",
        lambda _device, _fresh, _on_run: allocation_content(),
        rank_map_figure,
    ),
    "rank-tasks": FigureInfo(
        "where ranks end when the right answer is known, and on images",
        lambda _device, fresh, _on_run: rank_tasks_content(fresh=fresh),
        rank_map_figure,
    ),
    "flaws": _of_records(
        "dropout's noise, B's escape by layer, and growth with the scaling, in a real fine-tune",
        flaws_content,
        curves_figure,
    ),
}
