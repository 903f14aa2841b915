"""How the rows of BA leave zero, run beside run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from allora_lab.methods import METHODS
from allora_lab.plots.style import COLOURS, EndLabel, lab_style, label_ends
from allora_lab.training.optimizers import OPTIMIZERS


@dataclass(frozen=True)
class Curve:
    """One run's mean row norm: `steps` and `norms` start after step 0, where every norm is zero."""

    steps: Sequence[int]
    norms: Sequence[float]
    label: str
    colour: str
    is_dashed: bool = False


def curve_of(run: dict[str, Any], *, base_lr: float) -> Curve:
    """Return the curve of a row of `escape.json`; LoRA at another rate than `base_lr` is dashed."""
    ratio = run["lr"] / base_lr
    label = METHODS[run["method"]].label + ("" if ratio == 1 else f" at {ratio:.3g} × lr")
    return Curve(run["steps"], run["row_norm_mean"], label, COLOURS[run["method"]], ratio != 1)


def draw_curves(axes: Axes, curves: Sequence[Curve]) -> None:
    """Draw curves on logarithmic axes, with their names at their ends."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    for curve in curves:
        shown = [(s, n) for s, n in zip(curve.steps, curve.norms, strict=True) if s and n]
        axes.plot(
            *zip(*shown, strict=True),
            color=curve.colour,
            ls="--" if curve.is_dashed else "-",
            lw=2.2,
            marker="o",
            ms=3.5,
        )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("optimizer steps done")
    label_ends(axes, [EndLabel(c.norms[-1], c.label, c.colour) for c in curves])


def escape_figure(runs: Sequence[dict[str, Any]]) -> Figure:
    """Return the figure of the demo: one panel an optimizer, one curve a run of `escape.json`."""
    with lab_style():
        figure = Figure(figsize=(11.5, 4.2))
        for index, key in enumerate(("sgd", "adamw")):
            axes = figure.add_subplot(1, 2, index + 1)
            lr = OPTIMIZERS[key].default_lr
            draw_curves(axes, [curve_of(r, base_lr=lr) for r in runs if r["optimizer"] == key])
            axes.set_title(f"{OPTIMIZERS[key].label}, lr = {lr:g}")
        figure.axes[0].set_ylabel("mean row norm of BA")
        figure.subplots_adjust(left=0.07, right=0.83, wspace=0.62, bottom=0.14, top=0.9)
    return figure
