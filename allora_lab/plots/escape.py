"""How the rows of BA leave zero, run beside run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from allora_lab.methods import METHODS
from allora_lab.plots.style import COLOURS, EndLabel, lab_style, label_ends, log_scale
from allora_lab.training.optimizers import OPTIMIZERS

# Mean row norms after one step, rounded down: SGD's first steps are a thousand times smaller.
FLOORS = {"sgd": 1e-6, "adamw": 1e-3, "adafactor": 1e-3}


@dataclass(frozen=True)
class Curve:
    """One run's mean row norm: `steps` and `norms` start after step 0, where every norm is zero."""

    steps: Sequence[int]
    norms: Sequence[float]
    label: str
    colour: str
    is_dashed: bool = False
    is_dotted: bool = False
    is_backdrop: bool = False  # plain LoRA: wide and pale, so that a curve upon it is seen

    @property
    def line_style(self) -> str:
        """Return matplotlib's word for the line: live runs are dotted, other rates dashed."""
        return ":" if self.is_dotted else "--" if self.is_dashed else "-"


def curve_of(run: dict[str, Any], *, base_lr: float) -> Curve:
    """Return the curve of a row of `escape.json`; LoRA at another rate than `base_lr` is dashed."""
    ratio = run["lr"] / base_lr
    label = METHODS[run["method"]].label + ("" if ratio == 1 else f" at {ratio:.3g} × lr")
    return Curve(
        run["steps"],
        run["row_norm_mean"],
        label,
        COLOURS[run["method"]],
        is_dashed=ratio != 1,
        is_backdrop=run["method"] == "lora",
    )


def draw_curves(axes: Axes, curves: Sequence[Curve], *, floor: float, is_log: bool = True) -> None:
    """Draw curves with their names at their ends.

    Logarithmic axes show ratios (two curves a constant distance apart) from `floor` up; linear
    ones show the escape from zero itself.
    """
    top = max([floor, *(max(curve.norms) for curve in curves)])
    last = max([2, *(curve.steps[-1] for curve in curves)])
    if is_log:
        axes.set_xscale("log", base=2)
        log_scale(axes)
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(0.9 if is_log else 0, last * 1.04)
    axes.set_ylim((floor, max(1.0, 2 * top)) if is_log else (0, 1.08 * top))
    for curve in curves:
        shown = [(s, n) for s, n in zip(curve.steps, curve.norms, strict=True) if s or not is_log]
        axes.plot(
            *zip(*shown, strict=True),
            color=curve.colour,
            ls=curve.line_style,
            lw=6 if curve.is_backdrop else 2,
            alpha=0.4 if curve.is_backdrop else 1,
            solid_capstyle="round",
            marker="" if curve.is_backdrop else "o",
            ms=3.5,
        )
    axes.set_xlabel("optimizer steps done")
    label_ends(axes, [EndLabel(c.steps[-1], c.norms[-1], c.label, c.colour) for c in curves])


def escape_figure(runs: Sequence[dict[str, Any]]) -> Figure:
    """Return the figure of the demo: one panel an optimizer, one curve a run of `escape.json`."""
    with lab_style():
        figure = Figure(figsize=(12, 4.2))
        for index, key in enumerate(("sgd", "adamw")):
            axes = figure.add_subplot(1, 2, index + 1)
            lr = OPTIMIZERS[key].default_lr
            curves = [curve_of(r, base_lr=lr) for r in runs if r["optimizer"] == key]
            draw_curves(axes, curves, floor=FLOORS[key])
            axes.set_title(f"{OPTIMIZERS[key].label}, lr = {lr:g}")
        figure.axes[0].set_ylabel("mean row norm of BA")
        figure.subplots_adjust(left=0.065, right=0.82, wspace=0.5, bottom=0.14, top=0.9)
    return figure
