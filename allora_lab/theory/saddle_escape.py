r"""How long gradient flow stays near (0, 0) when A starts small and B at zero.

Near (0, 0) the flow dA/dt = -Bᵀ G, dB/dt = -G Aᵀ is linear, and its fastest part grows as
exp(σ₁ t), σ₁ the largest singular value of G = 2 Eᵀ X.  A start at A = ε A₀ must grow by a factor of
order 1/ε, so that

    time to leave  =  ln(1/ε) / σ₁ + a constant ,

infinite at ε = 0.  The paper (arXiv 2410.09692, section 1) calls zero "difficult to escape from";
here the time is measured, from A as small or as large as one likes.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from allora_lab.checks import require_at_least, require_positive
from allora_lab.theory import hessian as convex
from allora_lab.theory.hessian import Regression
from allora_lab.theory.landscape import Point, joint_gradient, joint_loss


def escape_rate(task: Regression) -> float:
    """Return σ₁, the largest singular value of G at V = 0: the rate at which (0, 0) is left."""
    return torch.linalg.svdvals(convex.gradient(task, torch.zeros_like(task.W)))[0].item()


def flow_step(task: Regression, A: Tensor, B: Tensor, dt: Float[Tensor, "*#batch 1 1"]) -> Point:
    """Return (A, B) after a time `dt` of dθ/dt = -∇L, by one Runge-Kutta step of fourth order."""

    def velocity(A: Tensor, B: Tensor) -> Point:
        along_A, along_B = joint_gradient(task, A, B)
        return -along_A, -along_B

    a1, b1 = velocity(A, B)
    a2, b2 = velocity(A + dt / 2 * a1, B + dt / 2 * b1)
    a3, b3 = velocity(A + dt / 2 * a2, B + dt / 2 * b2)
    a4, b4 = velocity(A + dt * a3, B + dt * b3)
    return A + dt / 6 * (a1 + 2 * a2 + 2 * a3 + a4), B + dt / 6 * (b1 + 2 * b2 + 2 * b3 + b4)


def descent_times(
    task: Regression,
    A: Float[Tensor, "starts r d_in"],
    fraction: float = 0.5,
    fineness: float = 0.1,
    max_steps: int = 20_000,
) -> Float[Tensor, " starts"]:
    """Return, for each start (A, B = 0), the time until L has fallen to `fraction` of its start.

    Infinite where the start is stationary, as A = 0 is, or `max_steps` steps do not suffice.  A step is
    `fineness` / (σ₁ + λ₁), λ₁ the largest eigenvalue of 2 A XᵀX Aᵀ; the crossing is interpolated in
    ln L.  Raises ValueError unless 0 < `fraction` < 1 and `fineness` > 0.
    """
    require_positive("fraction", 1 - fraction)
    require_positive("fraction", fraction)
    require_positive("fineness", fineness)
    require_at_least("max_steps", max_steps, 1)
    stiff = 2 * torch.linalg.matrix_norm(task.X @ A.mT, ord=2).square()
    dt = (fineness / (escape_rate(task) + stiff))[:, None, None]
    B = A.new_zeros(len(A), len(task.W), A.shape[1])
    moves = joint_gradient(task, A, B)[1].flatten(1).any(dim=1)
    before = joint_loss(task, A, B)
    goal = fraction * before
    times = torch.full_like(before, torch.inf)
    for step in range(max_steps):
        A, B = flow_step(task, A, B, dt)
        after = joint_loss(task, A, B)
        crossed = (after <= goal) & times.isinf()
        part = (before / goal).log() / (before / after).log()
        times = torch.where(crossed, (step + part) * dt.flatten(), times)
        if (times.isfinite() | ~moves).all():
            break
        before = after
    return times
