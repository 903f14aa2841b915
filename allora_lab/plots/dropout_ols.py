"""The figure `dropout-ols`: W held fixed, what the mean asks for, W moving, and what does fall as 1/√N."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from allora_lab.plots.dropout_drawing import noise_to_effect
from allora_lab.plots.style import EndLabel, lab_style, label_ends, log_scale
from allora_lab.theory.mean_of_draws import NORMAL_FACTOR

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
PLACES = {"output": ORANGE, "bottleneck": GREEN, "input": BLUE}


def draw_misses(axes: Axes, sampled: Mapping[str, Any]) -> None:
    """Draw E|mean of N draws - expectation|, sampled, beside the bound and the normal limit."""
    sizes = np.array(sampled["sizes"], dtype=float)
    bound = sampled["std"] / np.sqrt(sizes)
    axes.plot(sizes, bound, "--", color=GREY, lw=1.6)
    axes.plot(sizes, NORMAL_FACTOR * bound, color=BLUE, lw=1.6)
    axes.plot(sizes, sampled["errors"], "o", color=BLUE, ms=5.5)
    axes.axhline(sampled["added"], color="black", lw=0.8)
    axes.text(sizes[-1], 1.06 * sampled["added"], "what dropout adds", ha="right", fontsize="small")
    for which in ("x", "y"):
        log_scale(axes, which)
    axes.set_ylim(0.1, 60)
    axes.set(xlabel="draws N", ylabel="E|mean of N losses − expectation|")
    axes.set_title("W fixed: 1/√N; the bound is 1.25 × too large")
    ends = [
        EndLabel(sizes[-1], bound[-1], "bound Std/√N", GREY),
        EndLabel(sizes[-1], NORMAL_FACTOR * bound[-1], "√(2/π) of it", BLUE),
    ]
    label_ends(axes, ends)


def draw_shares(axes: Axes, cases: Mapping[str, Any], r: int) -> None:
    """Draw what each placement's minimiser keeps along each direction, and the ridge nearest to it."""
    axes.axhline(1, color="black", lw=0.8)
    ends = []
    for name, colour in PLACES.items():
        found = cases[name]["not_whitened"]["shrinkage"]
        h = np.geomspace(0.6, 110, 80)
        curve = h / (h + found["lam"])
        axes.plot(h, curve, color=colour, lw=1.2, alpha=0.7)
        axes.plot(found["eigenvalues"], found["shares"], "o", color=colour, ms=6)
        text = f"{name}: {100 * found['distance']:.0f} % off"
        if found["rank_alone"] > 1e-3:
            text += f"\n(rank {r} alone: {100 * found['rank_alone']:.0f} %)"
        ends.append(EndLabel(found["eigenvalues"][0], found["shares"][0], text, colour))
    log_scale(axes, "x")
    axes.set_xlim(0.6, 110)
    axes.set_ylim(0, 1.1)
    axes.set(xlabel="eigenvalue of XᵀX", ylabel="share of least squares kept")
    axes.set_title("Not whitened: dots off every ridge (lines)")
    label_ends(axes, ends, gap=0.13)


def draw_runs(axes: Axes, moving: Mapping[str, Any], slower: Mapping[str, Any]) -> None:
    """Draw the noise of one run of SGD over the effect of dropout, for two learning rates."""
    axes.axhline(1, color="black", lw=0.8)
    axes.text(10_000, 1.15, "noise = effect", ha="right", fontsize="small")
    ends = []
    for run, text, style in ((moving, "lr", "-"), (slower, "lr / 4", "--")):
        ratios = noise_to_effect(run)
        axes.plot(run["steps"], ratios, style, color=ORANGE, lw=2)
        ends.append(EndLabel(run["steps"][-1], ratios[-1], text, ORANGE))
    for which in ("x", "y"):
        log_scale(axes, which)
    axes.set_xlim(1, 10_000)
    axes.set_ylim(0.01, 200)
    axes.set(xlabel="steps N of SGD from W = 0", ylabel="noise ÷ effect of dropout")
    axes.set_title("W moves: noise first, then a floor")
    label_ends(axes, ends)


def draw_rates(axes: Axes, timed: Mapping[str, Any], runs: Mapping[str, Any]) -> None:
    """Draw what falls as one over a root: steps at one training time, and means of runs."""
    ends = []
    for x, ratios, text, colour, marker in (
        (timed["steps"], timed["ratios"], "N steps,\nlr · N fixed", BLUE, "s"),
        (runs["groups"], runs["ratios"], "mean of P runs", GREEN, "o"),
    ):
        axes.plot(x, ratios, marker, color=colour, ms=5.5)
        law = ratios[0] * np.sqrt(x[0] / np.array(x, dtype=float))
        axes.plot(x, law, color=colour, lw=1.2)
        ends.append(EndLabel(x[-1], ratios[-1], text, colour))
    for which in ("x", "y"):
        log_scale(axes, which)
    axes.set_xlim(0.8, 10_000)
    axes.set_ylim(0.004, 0.4)
    axes.set(xlabel="N, or P", ylabel="noise ÷ effect of dropout")
    axes.set_title("These do fall as 1/√N and 1/√P")
    label_ends(axes, ends, gap=0.13)


def dropout_ols_figure(content: Mapping[str, Any]) -> Figure:
    """Return the figure of `dropout-ols.json`."""
    with lab_style():
        figure = Figure(figsize=(12, 8))
        axes = figure.subplots(2, 2)
        draw_misses(axes[0, 0], content["sampled"])
        draw_shares(axes[0, 1], content["cases"], content["setting"]["r"])
        draw_runs(
            axes[1, 0], content["cases"]["output"]["not_whitened"]["moving"], content["slower"]
        )
        draw_rates(axes[1, 1], content["fixed_time"], content["averaged_runs"])
        figure.subplots_adjust(0.07, 0.075, 0.84, 0.95, wspace=0.6, hspace=0.32)
    return figure
