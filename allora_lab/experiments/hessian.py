"""Numbers of the figure `hessian`: how singular the Hessian is, and where LoRA starts."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from allora_lab.experiments.planted_task import D_IN, D_OUT, R, planted_task, start_of_A
from allora_lab.theory import hessian as convex
from allora_lab.theory.hessian import Regression
from allora_lab.theory.landscape import (
    count_signs,
    joint_gradient,
    joint_hessian,
    joint_loss,
    spectrum_at_zero_B,
    speed_ratio,
)
from allora_lab.theory.saddle_escape import descent_times, escape_rate

SAMPLES = (4, 6, 8, 12, 16, 20, 24, 28, 30, 32, 34, 36, 40, 48, 64, 96, 128)
SCALES = (1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0)


def convex_case(task: Regression) -> dict[str, Any]:
    """Return what the Hessian in V looks like: eigenvalues, rank, condition, slowest time to 1 %."""
    (n, d_in), d_out = task.X.shape, len(task.W)
    h = convex.eigenvalues(task.X)
    rank = convex.hessian_rank(task.X, d_out)
    return {
        "n": n,
        "d_in": d_in,
        "eigenvalues": h.tolist(),
        "edges": list(convex.spectrum_edges(n, d_in)),
        "rank": rank,
        "size": d_out * d_in,
        "condition": convex.condition_number(task.X),
        "slowest_time": convex.time_to_fraction(h[h > 0][-1]).item(),
    }


def joint_case(task: Regression, A: Float[Tensor, "r d_in"]) -> dict[str, Any]:
    """Return gradient and eigenvalues of the landscape in (A, B) at (A, B = 0)."""
    h = spectrum_at_zero_B(task, A)
    negative, zero, positive = count_signs(h)
    B = A.new_zeros(len(task.W), len(A))
    return {
        "eigenvalues": h.tolist(),
        "negative": negative,
        "zero": zero,
        "positive": positive,
        "gradient_A": joint_gradient(task, A, B)[0].norm().item(),
        "gradient_B": joint_gradient(task, A, B)[1].norm().item(),
        "speed_ratio": speed_ratio(task, A),
    }


def conditioning(samples: Sequence[int], n_draws: int = 20) -> dict[str, list[float | None]]:
    """Return, for each n, the median condition number of the nonzero part over `n_draws` seeds.

    `predicted` is the ratio of Marchenko and Pastur's edges, None at n = d where it is infinite.
    """
    inputs = [planted_task(max(samples), seed=s).X for s in range(n_draws)]
    median, predicted = [], []
    for n in samples:
        draws = [convex.condition_number(X[:n]) for X in inputs]
        low, high = convex.spectrum_edges(n, D_IN)
        median.append(torch.tensor(draws, dtype=torch.float64).median().item())
        predicted.append(high / low if low > 0 else None)
    return {"n": list(samples), "median": median, "predicted": predicted}


def checks(seed: int = 0) -> dict[str, float]:
    """Return how far closed forms and prints are from autograd, relative to autograd's size."""
    task = planted_task(5, d_in=4, d_out=4, seed=seed)  # square, so that eq. 1 can be evaluated
    start = torch.zeros_like(task.W)
    by_grad = torch.func.grad(lambda V: convex.loss(task, V))(start)
    ours = torch.func.hessian(lambda v: convex.loss(task, v.view_as(start)))(start.flatten())
    theirs = torch.func.hessian(lambda v: convex.loss(task, v.view_as(start).mT))(start.flatten())
    A = start_of_A(4, 2, seed=seed)
    theta = torch.cat([A.flatten(), A.new_zeros(8)])
    joint = torch.func.hessian(
        lambda t: joint_loss(task, t[:8].view(2, 4), t[8:].view(4, 2)),
    )(theta)

    def error(got: Tensor, expected: Tensor) -> float:
        return ((got - expected).norm() / expected.norm()).item()

    return {
        "gradient": error(convex.gradient(task, start), by_grad),
        "gradient_as_printed": error(convex.gradient_as_printed(task, start), by_grad),
        "hessian": error(convex.hessian(task.X, 4), ours),
        "hessian_as_printed": error(convex.hessian(task.X, 4) / 2, ours),
        "hessian_paper_layout": error(convex.hessian_paper_layout(task.X, 4), theirs),
        "hessian_wrong_order": error(convex.hessian(task.X, 4), theirs),
        "joint_hessian": error(joint_hessian(task, A, A.new_zeros(4, 2)), joint),
    }


def escape(task: Regression, scales: Sequence[float], r: int = R, seed: int = 0) -> dict[str, Any]:
    """Return how long gradient flow takes to halve L from (scale × A, B = 0), and the law's slope.

    `slope` is measured between the two smallest scales, against ln(1 / scale); `full_time` is what
    full fine-tuning takes, from V = 0 by the same flow.
    """
    starts = torch.stack([start_of_A(task.X.shape[1], r, s, seed) for s in scales])
    times = descent_times(task, starts)
    logs = -torch.tensor(scales, dtype=torch.float64).log()
    return {
        "scales": list(scales),
        "times": times.tolist(),
        "slope": ((times[0] - times[1]) / (logs[0] - logs[1])).item(),
        "expected_slope": 1 / escape_rate(task),
        "full_time": convex.time_to_loss(task, torch.zeros_like(task.W), 0.5),
    }


def hessian_content(seed: int = 0) -> dict[str, Any]:
    """Return the numbers of the figure `hessian`, and what they say."""
    task = planted_task(2 * D_IN, seed=seed)
    content = {
        "d_in": D_IN,
        "d_out": D_OUT,
        "r": R,
        "seed": seed,
        "n_of_landscape": 2 * D_IN,
        "checks": checks(seed),
        "spectra": [convex_case(planted_task(n, seed=seed)) for n in (8, 32, 128)],
        "conditioning": conditioning(SAMPLES),
        "landscape": [
            {"scale": s, **joint_case(task, start_of_A(scale=s, seed=seed))} for s in (0.0, *SCALES)
        ],
        "escape": escape(task, SCALES, seed=seed),
    }
    return {**content, "sentences": findings(content)}


def findings(content: dict[str, Any]) -> list[str]:
    """Return what the numbers say, in words."""
    few = content["spectra"][0]
    condition = dict(
        zip(content["conditioning"]["n"], content["conditioning"]["median"], strict=True)
    )
    least, d, most = min(condition), content["d_in"], max(condition)
    zero = content["landscape"][0]
    start = next(row for row in content["landscape"] if row["scale"] == 1)
    leave = content["escape"]
    wait = leave["times"][leave["scales"].index(1.0)] / leave["full_time"]
    fixed = few["size"] - few["rank"]
    rank = (
        f"With {few['n']} samples for {few['d_in']} inputs the Hessian in V has rank {few['rank']} "
    )
    rank += f"of {few['size']}, at V = 0 and at every other V; {fixed} directions never move, and "
    rank += "the loss does not depend on them."
    worst = f"Its nonzero part is conditioned {condition[least]:.1f} at n = {least}, "
    worst += (
        f"{condition[d]:.0f} at n = d = {d} and {condition[most]:.1f} at n = {most} (medians): "
    )
    worst += "worst where n = d, not where n is smallest."
    saddle = f"(0, 0) is a saddle: its gradient is {zero['gradient_B']:.0f}, {zero['negative']} "
    saddle += f"eigenvalues are below zero and {zero['positive']} above."
    lora = (
        f"LoRA's start is none: ‖∇B‖ = {start['gradient_B']:.1f}, although {start['negative']} of "
    )
    lora += "its eigenvalues are below zero too."
    law = f"A start smaller by a factor e waits {leave['slope']:.5f} longer (1/σ₁ is "
    law += (
        f"{leave['expected_slope']:.5f}). From LoRA's own A the wait is {wait:.1f} times that of "
    )
    law += "full fine-tuning at the same learning rate."
    return [rank, worst, saddle, lora, law]
