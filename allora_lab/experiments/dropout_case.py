"""What the panel of notebook 01 shows for one setting: W held fixed, W moving, and the minimiser."""

from functools import lru_cache
from typing import Any

import torch

from allora_lab.experiments.dropout_task import DropoutTask, Optimum, dropout_task, optimum
from allora_lab.theory.dropout_ols import (
    dropout_strength,
    expected_loss,
    loss_variance,
    penalty,
    sampled_losses,
)
from allora_lab.theory.dropout_optimum import least_squares, nearest_ridge, shares_kept
from allora_lab.theory.dropout_sgd import expected_descent
from allora_lab.theory.dropout_sgd_spread import path_spread
from allora_lab.theory.mean_of_draws import sampled_error

DRAWS = 2**11
SIZES = (1, 3, 10, 30, 100)  # numbers of draws whose means are sampled
STEPS = (2, 3, 4, 6, 10, 14, 20, 30, 50, 70, 100, 200, 300, 500, 1000, 2000, 3000, 10000)
STEP_SIZE = 0.01  # lr times the mean eigenvalue of XᵀX (of ZᵀZ for a bottleneck)


def fixed_W(
    best: Optimum,
    keep: float,
    seed: int = 0,
    *,
    n_draws: int = DRAWS,
    sizes: tuple[int, ...] = SIZES,
) -> dict[str, Any]:
    """Return how far means of N draws stray while W stands at its optimum.

    `added` is k · penalty, what dropout adds to the expected loss: the size to compare with.
    """
    expectation = expected_loss(best.fit, keep).item()
    generator = torch.Generator().manual_seed(seed)
    draws = sampled_losses(best.fit, keep, n_draws, generator)
    errors = [sampled_error(draws, expectation, size) for size in sizes]
    return {
        "expectation": expectation,
        "std": loss_variance(best.fit, keep).sqrt().item(),
        "added": dropout_strength(keep) * penalty(best.fit).item(),
        "sizes": list(sizes),
        "errors": [error for error, _ in errors],
        "standard_errors": [error for _, error in errors],
    }


def moving_W(
    task: DropoutTask,
    best: Optimum,
    placement: str,
    keep: float,
    *,
    steps: tuple[int, ...] = STEPS,
    step_size: float = STEP_SIZE,
) -> dict[str, Any]:
    """Return, for N steps of SGD from 0, one run's spread and what dropout changes on average.

    `spread` is √E||W_N - E W_N||²; `effect` ||E W_N - W_N without dropout||, both exact.
    """
    design, Y = best.design, task.Y
    lr = step_size * design.shape[1] / design.square().sum().item()
    start = torch.zeros(design.shape[1], Y.shape[1], dtype=Y.dtype)
    kind = "output" if placement == "output" else "input"
    run = {"lr": lr, "steps": steps}
    spread = path_spread(kind, design, Y, start, keep=keep, **run)
    mean = expected_descent(kind, design, Y, start, keep=keep, **run)
    plain = expected_descent(kind, design, Y, start, keep=1.0, **run)
    effect = (mean - plain).flatten(1).norm(dim=1)
    return {"lr": lr, "steps": list(steps), "spread": spread.tolist(), "effect": effect.tolist()}


def shrinkage(task: DropoutTask, best: Optimum, placement: str) -> dict[str, Any]:
    """Return the share of least squares kept along each direction of X, and the nearest ridge.

    `distance` is to that ridge, relative to ||W||; `rank_alone` the same without dropout, where it
    is not 0 only because a bottleneck limits the rank.
    """
    lam, distance = nearest_ridge(task.X, task.Y, best.W)
    shares = shares_kept(best.W, least_squares(task.X, task.Y), task.directions)
    return {
        "eigenvalues": task.eigenvalues.tolist(),
        "shares": shares.tolist(),
        "lam": lam,
        "distance": distance,
        "rank_alone": nearest_ridge(task.X, task.Y, optimum(task, placement, 1.0).W)[1],
    }


@lru_cache(maxsize=256)
def dropout_case(
    *, placement: str, keep: float, is_whitened: bool, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Return all three, under the keys `fixed`, `moving` and `shrinkage`; kept for the panel."""
    task = dropout_task(is_whitened=is_whitened, seed=seed)
    best = optimum(task, placement, keep)
    return {
        "fixed": fixed_W(best, keep, seed),
        "moving": moving_W(task, best, placement, keep),
        "shrinkage": shrinkage(task, best, placement),
    }
