r"""The loss of one linear layer in LoRA's own parameters A and B, where V = B A.

    L(A, B) = ‖X (W + B A)ᵀ - Y‖²_F ,   G = 2 Eᵀ X  (the gradient in V, at V = B A)
    ∇_A = Bᵀ G   (r, d_in),             ∇_B = G Aᵀ   (d_out, r)

The Hessian, in θ = (A by rows, then B by rows), has the blocks

    H_AA = 2 · BᵀB ⊗ XᵀX ,   H_BB = 2 · I ⊗ A XᵀX Aᵀ ,
    H_AB[(k, j), (i, l)] = 2 B_ik (A XᵀX)_lj + G_ij δ_kl .

L is not convex.  At (0, 0) the gradient is 0 and only G remains in H: a saddle.  LoRA starts at
(A random, B = 0), where ∇_A = 0 but ∇_B = G Aᵀ is not.  The paper (arXiv 2410.09692, section 1) says
LoRA's parameters "start from a saddle point", and in section 3.2 differentiates in V alone; here
A and B are the variables, as they are in training.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from allora_lab.theory import hessian as convex
from allora_lab.theory.hessian import Regression

Point = tuple[Tensor, Tensor]  # A (r, d_in) and B (d_out, r), or a direction in their space


def joint_loss(
    task: Regression, A: Float[Tensor, "*batch r d_in"], B: Float[Tensor, "*batch d_out r"]
) -> Float[Tensor, "*batch"]:
    """Return L(A, B) = ‖X (W + B A)ᵀ - Y‖²_F, one for each pair."""
    return convex.loss(task, B @ A)


def joint_gradient(
    task: Regression, A: Float[Tensor, "*batch r d_in"], B: Float[Tensor, "*batch d_out r"]
) -> tuple[Float[Tensor, "*batch r d_in"], Float[Tensor, "*batch d_out r"]]:
    """Return ∇_A = Bᵀ G and ∇_B = G Aᵀ, where G = 2 Eᵀ X."""
    G = convex.gradient(task, B @ A)
    return B.mT @ G, G @ A.mT


def joint_hessian(
    task: Regression, A: Float[Tensor, "r d_in"], B: Float[Tensor, "d_out r"]
) -> Float[Tensor, "size size"]:
    """Return H of size r(d_in + d_out), for A flattened row by row and then B."""
    gram, G = task.X.mT @ task.X, convex.gradient(task, B @ A)
    same_rank = torch.eye(len(A), dtype=A.dtype)
    AA = 2 * torch.kron(B.mT @ B, gram)
    BB = 2 * torch.kron(torch.eye(len(B), dtype=B.dtype), A @ gram @ A.mT)
    AB = 2 * torch.einsum("ik,lj->kjil", B, A @ gram)
    AB = (AB + torch.einsum("ij,kl->kjil", G, same_rank)).reshape(A.numel(), B.numel())
    return torch.cat([torch.cat([AA, AB], 1), torch.cat([AB.mT, BB], 1)])


def spectrum_at_zero_B(task: Regression, A: Float[Tensor, "r d_in"]) -> Float[Tensor, " size"]:
    """Return all r(d_in + d_out) eigenvalues of H at (A, B = 0), smallest first, in closed form.

    There H_AA = 0 and H_AB holds G alone.  With σ_s the singular values of G and λ_m the
    eigenvalues of 2 A XᵀX Aᵀ, H falls apart into blocks [[0, σ_s], [σ_s, λ_m]], so that

        h = ½ (λ_m ± √(λ_m² + 4 σ_s²))    for every s and m;

    what is left of B's directions has h = λ_m, what is left of A's has h = 0.  One of each pair is
    negative wherever σ_s > 0.  At (0, 0) every λ_m is 0 and the pairs are ±σ_s, each r times.
    """
    d_out, d_in = task.W.shape
    sigma = torch.linalg.svdvals(convex.gradient(task, torch.zeros_like(task.W)))
    bottleneck = task.X @ A.mT
    lam = torch.linalg.eigvalsh(2 * bottleneck.mT @ bottleneck).clamp(min=0)  # (r,)
    root = torch.sqrt(lam.square() + 4 * sigma.square()[:, None])  # (min(d_in, d_out), r)
    upper = (lam + root) / 2
    # the product of a pair is -σ²; dividing keeps the small one exact, where subtracting would not
    lower = -(sigma.square()[:, None] / upper.clamp(min=torch.finfo(lam.dtype).tiny))
    rest_of_B = lam.repeat(d_out - len(sigma))
    rest_of_A = lam.new_zeros(len(A) * (d_in - len(sigma)))
    return torch.cat([lower.flatten(), upper.flatten(), rest_of_B, rest_of_A]).sort().values


def count_signs(h: Float[Tensor, " size"], tolerance: float = 1e-9) -> tuple[int, int, int]:
    """Return how many eigenvalues are negative, zero and positive.

    Zero means within `tolerance` times the largest in size.
    """
    small = tolerance * h.abs().max()
    negative, positive = int((h < -small).sum()), int((h > small).sum())
    return negative, len(h) - negative - positive, positive


def speed_ratio(task: Regression, A: Float[Tensor, "r d_in"]) -> float:
    """Return ‖G Aᵀ‖² / ‖G‖²: how fast LoRA's loss falls at its start, full fine-tuning's being 1.

    Under gradient flow dL/dt = -‖∇‖².  With the entries of A uniform within ± scale / √d_in the
    mean over A is scale² r / (3 d_in).  Raises ValueError if W already minimises L.
    """
    G = convex.gradient(task, torch.zeros_like(task.W))
    if not G.square().sum() > 0:
        raise ValueError("G is zero: W already minimises the loss, so that nothing moves")
    return ((G @ A.mT).square().sum() / G.square().sum()).item()


def extreme_directions(
    task: Regression, A: Float[Tensor, "r d_in"], B: Float[Tensor, "d_out r"]
) -> tuple[Point, Point]:
    """Return the unit directions (in A, in B) of most negative and of most positive curvature.

    Each points downhill; where the gradient is level along it, its largest entry is positive.
    """
    _, vectors = torch.linalg.eigh(joint_hessian(task, A, B))
    slope = torch.cat([part.flatten() for part in joint_gradient(task, A, B)])
    directions = []
    for v in (vectors[:, 0], vectors[:, -1]):
        along = (slope @ v).item()
        level = abs(along) <= 1e-12 * (1 + slope.norm().item())
        backward = v[v.abs().argmax()] < 0 if level else along > 0
        v = -v if backward else v
        directions.append((v[: A.numel()].view_as(A), v[A.numel() :].view_as(B)))
    return directions[0], directions[1]


def losses_on_plane(
    task: Regression, at: Point, p: Point, q: Point, steps: Float[Tensor, " k"]
) -> Float[Tensor, "k k"]:
    """Return L at `at` + s p + t q for every s (rows) and t (columns) of `steps`."""
    s, t = steps[:, None, None, None], steps[None, :, None, None]
    A, B = (c + s * along + t * across for c, along, across in zip(at, p, q, strict=True))
    return joint_loss(task, A, B)
