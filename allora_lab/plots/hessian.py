"""The figure `hessian`: the spectrum in V beside the landscape in A and B."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from allora_lab.plots.style import EndLabel, lab_style, label_ends, log_scale

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
FLOOR = 1e-3  # where eigenvalues of exactly 0 are drawn: a logarithmic axis has no 0


def draw_spectra(axes: Axes, cases: Sequence[Mapping[str, Any]]) -> None:
    """Draw the eigenvalues of 2 XᵀX for several n, largest first, zeros as open circles below."""
    labels = []
    for case, colour in zip(cases, (ORANGE, GREEN, BLUE), strict=True):
        h = np.array(case["eigenvalues"])
        index = np.arange(1, len(h) + 1)
        axes.plot(index[h > 0], h[h > 0], "o-", color=colour, ms=3.5, lw=1.5)
        axes.plot(index[h == 0], np.full((h == 0).sum(), FLOOR), "o", color=colour, ms=4, mfc="w")
        text = f"n = {case['n']}" + ("" if h[-1] > 0 else f": {(h == 0).sum()} at 0")
        labels.append(EndLabel(len(h), max(float(h[-1]), FLOOR), text, colour))
    log_scale(axes)
    axes.set_ylim(FLOOR / 2, 2000)
    axes.set(xlabel="direction, steepest first", ylabel="eigenvalue of 2 XᵀX")
    axes.set_title(f"{cases[0]['d_in']} inputs: fewer samples, flat directions")
    label_ends(axes, labels)


def draw_conditioning(axes: Axes, rows: Mapping[str, Any], *, d_in: int, d_out: int) -> None:
    """Draw the condition number of the nonzero part against n, and where H is singular."""
    n, predicted = np.array(rows["n"]), np.array(rows["predicted"], dtype=float)
    axes.axvspan(n[0], d_in, color="#F2E3D5", lw=0)
    axes.plot(n, rows["median"], "o-", color=BLUE, ms=3.5, lw=1.5)
    axes.plot(n, predicted, color=GREY, lw=1.2, ls="--")
    log_scale(axes)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(n[0], n[-1])
    axes.set_ylim(1, 3e4)
    axes.text(0.04, 0.9, f"singular: rank {d_out}·n", transform=axes.transAxes, color=ORANGE)
    axes.text(0.97, 0.9, f"rank {d_out}·d", transform=axes.transAxes, ha="right", color=BLUE)
    axes.set(xlabel="samples n", ylabel="condition of the nonzero part")
    axes.set_title("What is not flat is worst at n = d")
    ends = [
        EndLabel(rows["n"][-1], rows["median"][-1], "measured", BLUE),
        EndLabel(rows["n"][-1], rows["predicted"][-1], "Marchenko–Pastur", GREY),
    ]
    label_ends(axes, ends)


def draw_joint(axes: Axes, zero: Mapping[str, Any], start: Mapping[str, Any]) -> None:
    """Draw all eigenvalues in (A, B) at (0, 0) and at LoRA's start, smallest first."""
    index = np.arange(1, len(zero["eigenvalues"]) + 1)
    axes.axhline(0, color="black", lw=0.8)
    axes.step(index, zero["eigenvalues"], where="mid", color=BLUE, lw=5, alpha=0.4)
    axes.step(index, start["eigenvalues"], where="mid", color=ORANGE, lw=1.8)
    axes.set_ylim(1.15 * zero["eigenvalues"][0], 1.35 * start["eigenvalues"][-1])
    axes.set(xlabel="direction in (A, B), lowest first", ylabel="eigenvalue")
    axes.set_title("Both curve down; only (0, 0) is level")
    ends = [
        EndLabel(len(index), zero["eigenvalues"][-1], "(0, 0): ∇ = 0", BLUE),
        EndLabel(
            len(index),
            start["eigenvalues"][-1],
            f"LoRA's start:\n‖∇B‖ = {start['gradient_B']:.1f}",
            ORANGE,
        ),
    ]
    label_ends(axes, ends, gap=0.16)


def draw_escape(axes: Axes, rows: Mapping[str, Any]) -> None:
    """Draw the time to halve L against the scale of A, in units of full fine-tuning's."""
    scales, unit = np.array(rows["scales"]), rows["full_time"]
    times = np.array(rows["times"]) / unit
    law = times[0] + np.log(scales[0] / scales) * rows["expected_slope"] / unit
    axes.plot(scales, law, color=GREY, lw=1.2, ls="--")
    axes.plot(scales, times, "o-", color=ORANGE, ms=4, lw=1.8)
    axes.axhline(1, color=BLUE, lw=1.8)
    log_scale(axes, "x")
    axes.set_ylim(0, 1.15 * times[0])
    own = times[rows["scales"].index(1.0)]
    axes.annotate(
        f"LoRA's own A: {own:.1f}",
        (1.0, own),
        (-6, 95),
        textcoords="offset points",
        ha="center",
        arrowprops={"arrowstyle": "-", "color": GREY},
    )
    axes.set(xlabel="scale of A", ylabel="time to halve L, full fine-tuning = 1")
    axes.set_title("The wait grows as ln(1 / scale)")
    last = rows["scales"][-1]
    ends = [
        EndLabel(last, float(times[-1]), "LoRA", ORANGE),
        EndLabel(last, float(law[-1]), "slope 1/σ₁", GREY),
        EndLabel(last, 1, "full fine-tuning", BLUE),
    ]
    label_ends(axes, ends)


def hessian_figure(content: Mapping[str, Any]) -> Figure:
    """Return the figure of `hessian.json`: two pictures of V above, two of A and B below."""
    with lab_style():
        figure = Figure(figsize=(12, 8))
        axes = figure.subplots(2, 2)
        draw_spectra(axes[0, 0], content["spectra"])
        draw_conditioning(
            axes[0, 1], content["conditioning"], d_in=content["d_in"], d_out=content["d_out"]
        )
        rows = {row["scale"]: row for row in content["landscape"]}
        draw_joint(axes[1, 0], rows[0.0], rows[1.0])
        draw_escape(axes[1, 1], content["escape"])
        figure.subplots_adjust(0.07, 0.075, 0.85, 0.95, wspace=0.62, hspace=0.32)
    return figure
