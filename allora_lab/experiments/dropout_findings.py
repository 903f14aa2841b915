"""What the numbers of the figure `dropout-ols` say, in sentences computed from them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def findings(content: Mapping[str, Any]) -> list[str]:
    """Return what the numbers say, in words."""
    return [
        _of_the_bound(content["sampled"], content["setting"]),
        _of_the_appendix(content["appendix"], content["std_from_zero"]),
        _of_ridges(content["cases"]),
        _of_one_run(content["cases"]["output"]["not_whitened"]["moving"], content["slower"]),
        _of_rates(content["fixed_time"], content["averaged_runs"], content["joint_bias"]),
    ]


def _of_the_bound(sampled: Mapping[str, Any], setting: Mapping[str, Any]) -> str:
    at = sampled["sizes"].index(100)
    return (
        f"W fixed, p = {setting['keep']:g} on the output: the mean of 100 losses strays from its "
        f"expectation by {sampled['errors'][at] / (sampled['std'] / 10):.3f} of Std/√N (limit "
        f"0.798). A single loss strays by {sampled['errors'][0] / sampled['added']:.2f} of what "
        f"dropout adds, for it is already a sum over {setting['n'] * setting['c']} masked entries."
    )


def _of_the_appendix(appendix: Mapping[str, float], scaled: Mapping[str, Any]) -> str:
    return (
        f"Appendix A's middle line gives {appendix['printed']:.0f} under its root at N = "
        f"{appendix['n_draws']}; put right it is {appendix['corrected']:.3f} = Var/N. At W = 0 the "
        f"Std is {scaled['std'][0]:g}, and at least squares {scaled['std'][-1]:.1f}."
    )


def _of_ridges(cases: Mapping[str, Any]) -> str:
    def distances(name: str) -> str:
        return ", ".join(f"{p} {cases[p][name]['shrinkage']['distance']:.3f}" for p in cases)

    alone = {n: case["shrinkage"]["rank_alone"] for n, case in cases["bottleneck"].items()}
    return (
        "Distance from the minimiser to the nearest ridge, relative to its length: whitened "
        f"{distances('whitened')}; not whitened {distances('not_whitened')}. The bottleneck's rank "
        f"alone, without dropout, makes {alone['whitened']:.3f} and {alone['not_whitened']:.3f}."
    )


def _of_one_run(moving: Mapping[str, Any], slower: Mapping[str, Any]) -> str:
    def at(run: Mapping[str, Any], n: int) -> float:
        index = run["steps"].index(n)
        return run["spread"][index] / run["effect"][index]

    return (
        f"W moves: one run's noise is {at(moving, 3):.1f} times the effect of dropout after 3 "
        f"steps, {at(moving, 10):.2f} after 10, {at(moving, 100):.2f} after 100 and "
        f"{at(moving, 10000):.3f} after 10000, where a quarter of the learning rate leaves "
        f"{at(slower, 10000):.3f}: a floor, not 1/√N."
    )


def _of_rates(timed: Mapping[str, Any], runs: Mapping[str, Any], joint: Mapping[str, float]) -> str:
    return (
        f"At one training time lr · N the noise falls as N^{_slope(timed['steps'], timed['ratios']):.2f}"
        f", and over means of P runs as P^{_slope(runs['groups'], runs['ratios']):.2f}. With A and B "
        f"both learning the mean run is off descent on the expected loss by "
        f"{joint['bias'] / joint['effect']:.2f} of the effect "
        f"({joint['bias'] / joint['standard_error']:.0f} standard errors)."
    )


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    return math.log(y[-1] / y[0]) / math.log(x[-1] / x[0])
