"""Two-dimensional slices of the landscape, for the picture that a reader turns.

Each slice goes through the point where training starts and is spanned by two unit directions, with
the slope and curvature of L along each.  The task is small (4 samples, 6 inputs, 3 outputs, r = 2),
so that it has null directions in V; the toy is L(a, b) = (a b - 1)².
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from allora_lab.checks import require_known
from allora_lab.experiments.planted_task import planted_task, start_of_A
from allora_lab.theory import hessian as convex
from allora_lab.theory.hessian import Regression
from allora_lab.theory.landscape import (
    extreme_directions,
    joint_gradient,
    joint_hessian,
    losses_on_plane,
)

VIEWS = ("V", "A and B", "toy")
SPAN = {"V": 1.0, "A and B": 1.2, "toy": 1.7}  # far enough to hold the nearest minimum


@dataclass(frozen=True)
class Slice:
    """L on a k x k grid of `steps` along p (rows) and q (columns).

    `gradient_norm` is of the whole gradient at the point itself, the middle of the grid; slopes and
    curvatures there are those along p and q.
    """

    losses: Float[Tensor, "k k"]
    steps: Float[Tensor, " k"]
    gradient_norm: float
    slopes: tuple[float, float]
    curvatures: tuple[float, float]

    @property
    def at_point(self) -> float:
        """Return L at the point itself."""
        middle = len(self.steps) // 2
        return self.losses[middle, middle].item()

    @property
    def kind(self) -> str:
        """Return what the point is, by its gradient and the signs of the curvatures."""
        if self.curvatures[0] > -1e-9:
            where = "on the wall" if self.gradient_norm > 1e-9 else "at the bottom"
            return f"{where} of a trough: the trough is flat one way, however far"
        if self.gradient_norm > 1e-9:
            return "no saddle: it slopes at once"
        return "a saddle: level, down along orange and up along blue"


def toy_task() -> Regression:
    """Return the task whose loss is (a b - 1)²: one input 1, one target 1, W = 0."""
    one = torch.ones(1, 1, dtype=torch.float64)
    return Regression(one, torch.zeros_like(one), one)


def slice_in_V(task: Regression, steps: Float[Tensor, " k"]) -> Slice:
    """Return the slice at V = 0 along a null direction and along the steepest, both falling or level.

    Both change the weights of the same output, along the input direction with the least and the
    largest eigenvalue of 2 XᵀX.
    """
    h, vectors = torch.linalg.eigh(2 * task.X.mT @ task.X)
    G = convex.gradient(task, torch.zeros_like(task.W))
    u = -(G @ vectors[:, -1]) / (G @ vectors[:, -1]).norm()
    flat, steep = torch.outer(u, vectors[:, 0]), torch.outer(u, vectors[:, -1])
    V = steps[:, None, None, None] * flat + steps[:, None, None] * steep
    slopes = (G * flat).sum().item(), (G * steep).sum().item()
    losses, norm = convex.loss(task, V), G.norm().item()
    return Slice(losses, steps, norm, slopes, (h[0].item(), h[-1].item()))


def slice_in_A_and_B(
    task: Regression, A: Float[Tensor, "r d_in"], steps: Float[Tensor, " k"]
) -> Slice:
    """Return the slice at (A, B = 0) along the most negative and the most positive curvature."""
    B = A.new_zeros(len(task.W), len(A))
    p, q = extreme_directions(task, A, B)
    h = torch.linalg.eigvalsh(joint_hessian(task, A, B))
    along_A, along_B = joint_gradient(task, A, B)
    norm = torch.hypot(along_A.norm(), along_B.norm()).item()
    down, up = (((along_A * v[0]).sum() + (along_B * v[1]).sum()).item() for v in (p, q))
    losses = losses_on_plane(task, (A, B), p, q, steps)
    return Slice(losses, steps, norm, (down, up), (h[0].item(), h[-1].item()))


def slice_of(view: str, scale: float, points: int = 15, seed: int = 0) -> Slice:
    """Return the slice of a view (one of VIEWS) with A at `scale`; V's does not depend on A.

    Raises ValueError for any other view.
    """
    require_known("view", view, VIEWS)
    steps = torch.linspace(-SPAN[view], SPAN[view], points, dtype=torch.float64)
    if view == "toy":
        return slice_in_A_and_B(toy_task(), torch.full((1, 1), scale, dtype=torch.float64), steps)
    task = planted_task(4, d_in=6, d_out=3, seed=seed)
    if view == "V":
        return slice_in_V(task, steps)
    return slice_in_A_and_B(task, start_of_A(6, 2, scale, seed), steps)
