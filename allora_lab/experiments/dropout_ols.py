"""The numbers of the figure `dropout-ols`, and what they say of the paper's §3.1."""

from collections.abc import Mapping
from typing import Any

import torch

from allora_lab.experiments.dropout_case import STEP_SIZE, dropout_case, fixed_W, moving_W
from allora_lab.experiments.dropout_findings import findings
from allora_lab.experiments.dropout_task import SAMPLES, C, D, R, dropout_task, optimum
from allora_lab.theory.dropout_ols import (
    PLACEMENTS,
    MaskedFit,
    every_mask,
    expected_loss,
    loss_variance,
    losses_of,
    output_dropout,
)
from allora_lab.theory.dropout_optimum import least_squares
from allora_lab.theory.dropout_sgd import (
    bottleneck_descent,
    bottleneck_paths,
    expected_descent,
    sgd_paths,
)
from allora_lab.theory.mean_of_draws import middle_line, middle_line_as_printed

KEEP = 0.9  # what the figure quotes
SIZES = (1, 3, 10, 30, 100, 300, 1000)
TIMES = (30, 100, 300, 1000, 3000, 10000)
GROUPS = (1, 4, 16, 64, 256)
RUN = 100  # steps of the sampled runs


def enumeration(seed: int = 0) -> dict[str, dict[str, float]]:
    """Return the closed forms' relative errors against all 2^6 masks of a 3 x 2 problem.

    One problem with a full M M^T (input and bottleneck) and one with M = I (output).
    """
    generator = torch.Generator().manual_seed(seed)
    Y, Z, M = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((3, 2), (3, 2), (2, 2))
    )
    found = {}
    for name, factor in (("input and bottleneck", M), ("output", torch.eye(2).double())):
        fit = MaskedFit(Y, Z, factor)
        V, p = every_mask(3, 2, KEEP)
        losses = losses_of(fit, V)
        mean = p @ losses
        variance = p @ (losses - mean).square()
        found[name] = {
            "mean": (expected_loss(fit, KEEP) / mean - 1).abs().item(),
            "variance": (loss_variance(fit, KEEP) / variance - 1).abs().item(),
        }
    return found


def sampled(seed: int = 0) -> dict[str, Any]:
    """Return how far means of up to 1,000 draws stray, W held at its optimum, from 2^16 draws."""
    best = optimum(dropout_task(is_whitened=False, seed=seed), "output", KEEP)
    return fixed_W(best, KEEP, seed, n_draws=2**16, sizes=SIZES)


def appendix(fixed: Mapping[str, Any], n_draws: int = 100) -> dict[str, float]:
    """Return appendix A's middle line as printed and put right, and Var/N, for N draws."""
    square = fixed["expectation"]  # E||Z||², the expected loss
    fourth = square**2 + fixed["std"] ** 2
    return {
        "n_draws": n_draws,
        "printed": middle_line_as_printed(square, n_draws),
        "corrected": middle_line(square, fourth, n_draws),
        "variance_over_n": fixed["std"] ** 2 / n_draws,
    }


def std_from_zero(keep: float, seed: int = 0) -> dict[str, list[float]]:
    """Return Std of the output-dropout loss at W = scale times least squares, from W = 0."""
    task = dropout_task(is_whitened=False, seed=seed)
    ols, scales = least_squares(task.X, task.Y), [0.0, 0.25, 0.5, 0.75, 1.0]
    fits = [output_dropout(task.X, task.Y, scale * ols) for scale in scales]
    return {"scales": scales, "std": [loss_variance(f, keep).sqrt().item() for f in fits]}


def fixed_time(seed: int = 0) -> dict[str, Any]:
    """Return the noise over the effect when N steps share one training time, lr = time / N."""
    task = dropout_task(is_whitened=False, seed=seed)
    best = optimum(task, "output", KEEP)
    runs = [
        moving_W(task, best, "output", KEEP, steps=(n,), step_size=100 * STEP_SIZE / n)
        for n in TIMES
    ]
    return {"steps": list(TIMES), "ratios": [r["spread"][0] / r["effect"][0] for r in runs]}


def averaged_runs(seed: int = 0, n_paths: int = 1024) -> dict[str, Any]:
    """Return how far means of P sampled runs are from descent on the expected loss (root mean square).

    `ratios` are over the effect of dropout; `one` is what the exact spread says for P = 1.
    """
    task = dropout_task(is_whitened=False, seed=seed)
    moving = moving_W(task, optimum(task, "output", KEEP), "output", KEEP, steps=(RUN,))
    start = torch.zeros(D, C, dtype=torch.float64)
    run = {"keep": KEEP, "lr": moving["lr"], "steps": (RUN,)}
    generator = torch.Generator().manual_seed(seed)
    paths = sgd_paths("output", task.X, task.Y, start, n_paths=n_paths, generator=generator, **run)
    errors = (paths - expected_descent("output", task.X, task.Y, start, **run)[:, None])[0]
    means = [errors.view(-1, size, D, C).mean(dim=1) for size in GROUPS]
    spreads = [mean.square().sum(dim=(1, 2)).mean().sqrt().item() for mean in means]
    effect = moving["effect"][0]
    return {
        "groups": list(GROUPS),
        "ratios": [spread / effect for spread in spreads],
        "one": moving["spread"][0] / effect,
    }


def joint_bias(seed: int = 0, n_paths: int = 2048) -> dict[str, float]:
    """Return how far the mean of BA is from descent on the expected loss when A and B both learn.

    From LoRA's start, 40 steps, keep 0.5; `effect` is what dropout changes in that descent's BA.
    """
    task = dropout_task(is_whitened=False, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    A = (2 * torch.rand(R, D, generator=generator, dtype=torch.float64) - 1) / D**0.5
    start = task.X, task.Y, A, torch.zeros(C, R, dtype=torch.float64)
    run = {"lr": 0.002, "steps": 40}
    many_A, many_B = bottleneck_paths(*start, keep=0.5, n_paths=n_paths, generator=generator, **run)
    (A_mean, B_mean), (A_plain, B_plain) = (
        bottleneck_descent(*start, keep=keep, **run) for keep in (0.5, 1.0)
    )
    runs, descent = many_B @ many_A, B_mean @ A_mean
    return {
        **run,
        "keep": 0.5,
        "bias": (runs.mean(dim=0) - descent).norm().item(),
        "standard_error": (runs.var(dim=0).sum() / n_paths).sqrt().item(),
        "effect": (descent - B_plain @ A_plain).norm().item(),
    }


def dropout_ols_content(seed: int = 0) -> dict[str, Any]:
    """Return the numbers of the figure `dropout-ols`, and what they say."""
    cases = {
        placement: {
            name: dropout_case(placement=placement, keep=KEEP, is_whitened=white, seed=seed)
            for name, white in (("whitened", True), ("not_whitened", False))
        }
        for placement in PLACEMENTS
    }
    task = dropout_task(is_whitened=False, seed=seed)
    best = optimum(task, "output", KEEP)
    content = {
        "setting": {"n": SAMPLES, "d": D, "c": C, "r": R, "keep": KEEP, "seed": seed},
        "enumeration": enumeration(seed),
        "cases": cases,
        "sampled": sampled(seed),
        "appendix": appendix(cases["output"]["not_whitened"]["fixed"]),
        "std_from_zero": std_from_zero(KEEP, seed),
        "slower": moving_W(task, best, "output", KEEP, step_size=STEP_SIZE / 4),
        "fixed_time": fixed_time(seed),
        "averaged_runs": averaged_runs(seed),
        "joint_bias": joint_bias(seed),
    }
    return {**content, "sentences": findings(content)}
