r"""The loss of one linear layer in its update V: gradient, Hessian, spectrum, gradient flow.

    L(V) = ‖X (W + V)ᵀ - Y‖²_F ,    E = X (W + V)ᵀ - Y                       (n, d_out)
    ∇L   = 2 Eᵀ X                                                             (d_out, d_in)
    H    = 2 · I_{d_out} ⊗ XᵀX          for V flattened row by row, as torch does

(ALLoRA, arXiv 2410.09692, section 3.2).  W and V have `nn.Linear`'s layout (d_out, d_in); the paper
writes X(W + V) with (d_in, d_out), so that its V is our Vᵀ and its vec(V) our row-major V.  L is a
sum of squares, not a mean: divide by n for the mean over samples.

The paper prints ∇L = 2XᵀXV - 2(Y - XW)ᵀX, whose two terms have transposed shapes, and H = I_n ⊗ XᵀX,
which lacks the factor 2 and writes n, its name for the training set's size, for the number of
outputs.  H does not contain V: whatever it says of V = 0 it says of every other V.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from allora_lab.checks import require_at_least, require_positive


@dataclass(frozen=True)
class Regression:
    """Inputs X (n, d_in), a pretrained weight W (d_out, d_in) and targets Y (n, d_out).

    Raises ValueError where the shapes do not fit together.
    """

    X: Float[Tensor, "n d_in"]
    W: Float[Tensor, "d_out d_in"]
    Y: Float[Tensor, "n d_out"]

    def __post_init__(self) -> None:
        (n, d_in), (d_out, width) = self.X.shape, self.W.shape
        if width != d_in or tuple(self.Y.shape) != (n, d_out):
            raise ValueError(
                f"X (n, d_in), W (d_out, d_in) and Y (n, d_out) must agree, got {(n, d_in)}, "
                f"{(d_out, width)} and {tuple(self.Y.shape)}: transpose the one that does not fit"
            )


def residual(
    task: Regression, V: Float[Tensor, "*batch d_out d_in"]
) -> Float[Tensor, "*batch n d_out"]:
    """Return E = X (W + V)ᵀ - Y, one for each V."""
    return task.X @ (task.W + V).mT - task.Y


def loss(task: Regression, V: Float[Tensor, "*batch d_out d_in"]) -> Float[Tensor, "*batch"]:
    """Return L(V) = ‖X (W + V)ᵀ - Y‖²_F, the sum of squares, one for each V."""
    return residual(task, V).square().sum(dim=(-2, -1))


def gradient(
    task: Regression, V: Float[Tensor, "*batch d_out d_in"]
) -> Float[Tensor, "*batch d_out d_in"]:
    """Return ∇L = 2 Eᵀ X; in the paper's layout this is 2 Xᵀ(X(W + V) - Y), transposed.

    The paper's eq. 1 prints 2XᵀXV - 2(Y - XW)ᵀX, whose terms are (d_in, d_out) and (d_out, d_in);
    here the second is transposed, as the derivative demands.
    """
    return 2 * residual(task, V).mT @ task.X


def gradient_as_printed(
    task: Regression, V: Float[Tensor, "d_out d_in"]
) -> Float[Tensor, "d_out d_in"]:
    """Return eq. 1 to the letter, 2XᵀXV - 2(Y - XW)ᵀX, brought into our layout.

    It exists only where d_in = d_out, and is not the gradient there either.  Raises ValueError
    for any other shape.
    """
    d_out, d_in = V.shape
    if d_in != d_out:
        raise ValueError(
            f"eq. 1 as printed adds a {d_in} x {d_out} to a {d_out} x {d_in} matrix: "
            "choose d_in = d_out, or use gradient, which is right for every shape"
        )
    X, W, V = task.X, task.W.mT, V.mT  # the paper's layout
    return (2 * X.mT @ X @ V - 2 * (task.Y - X @ W).mT @ X).mT


def hessian(X: Float[Tensor, "n d_in"], d_out: int) -> Float[Tensor, "size size"]:
    """Return H = 2 · I_{d_out} ⊗ XᵀX, size d_out·d_in, for V (d_out, d_in) flattened row by row.

    The paper's eq. 2 prints I_n ⊗ XᵀX; here the 2 is there, and the identity has one row an output.
    Raises ValueError if `d_out` is below 1.
    """
    require_at_least("d_out", d_out, 1)
    return 2 * torch.kron(torch.eye(d_out, dtype=X.dtype), X.mT @ X)


def hessian_paper_layout(X: Float[Tensor, "n d_in"], d_out: int) -> Float[Tensor, "size size"]:
    """Return H = 2 · XᵀX ⊗ I_{d_out}, for the paper's V (d_in, d_out) flattened row by row.

    The same matrix as `hessian` with rows and columns renumbered.  The paper's I ⊗ XᵀX belongs to
    its V stacked *column* by column; torch's `flatten` goes by rows.
    """
    require_at_least("d_out", d_out, 1)
    return 2 * torch.kron(X.mT @ X, torch.eye(d_out, dtype=X.dtype))


def eigenvalues(X: Float[Tensor, "n d_in"]) -> Float[Tensor, " d_in"]:
    """Return the eigenvalues of 2 XᵀX, largest first; H has each of them d_out times.

    They are 2 s² for the singular values s of X, and exactly 0 where X has no (or a rounded-off)
    singular value: at least d_in - n of them.
    """
    n, d_in = X.shape
    s = torch.linalg.svdvals(X)
    s = torch.where(s > max(n, d_in) * torch.finfo(X.dtype).eps * s[0], s, 0)
    return torch.cat([2 * s.square(), s.new_zeros(max(d_in - n, 0))])


def hessian_rank(X: Float[Tensor, "n d_in"], d_out: int) -> int:
    """Return rank H = d_out · rank X: below d_out·d_in as soon as n < d_in, at every V."""
    return d_out * int((eigenvalues(X) > 0).sum())


def condition_number(X: Float[Tensor, "n d_in"]) -> float:
    """Return the largest over the smallest *nonzero* eigenvalue of H.

    Raises ValueError if X is zero.
    """
    h = eigenvalues(X)
    if not h[0] > 0:
        raise ValueError("X is zero, so that H has no nonzero eigenvalue: give X other inputs")
    return (h[0] / h[h > 0][-1]).item()


def spectrum_edges(n: int, d: int) -> tuple[float, float]:
    """Return 2(√n - √d)² and 2(√n + √d)², between which the nonzero eigenvalues of 2 XᵀX lie.

    For X (n, d) with independent entries of mean 0 and variance 1, n and d large (Marchenko and
    Pastur 1967; that none strays outside: Bai and Yin 1993).  The gap closes at n = d and opens
    again on both sides.  The paper does not use this.
    """
    require_at_least("n", n, 1)
    require_at_least("d", d, 1)
    return 2 * (math.sqrt(n) - math.sqrt(d)) ** 2, 2 * (math.sqrt(n) + math.sqrt(d)) ** 2


def time_to_fraction(h: Float[Tensor, "*shape"], fraction: float = 0.01) -> Float[Tensor, "*shape"]:
    """Return ln(1 / fraction) / h, the time gradient flow needs along an eigenvector of H.

    Under dV/dt = -∇L the error along an eigenvector falls as exp(-h t), so that it is down to
    `fraction` after this time; infinite where h = 0, for there nothing moves.  One step of
    gradient descent is a time `lr`.  Raises ValueError unless 0 < `fraction` < 1.
    """
    require_positive("fraction", fraction)
    if fraction >= 1:
        raise ValueError(f"fraction must be below 1, got {fraction}: 0.01 asks for one hundredth")
    return math.log(1 / fraction) / h


def flow_losses(
    task: Regression, V: Float[Tensor, "d_out d_in"], times: Float[Tensor, " t"]
) -> Float[Tensor, " t"]:
    """Return L along gradient flow from V, in closed form, at the given times.

    With X = Σ sᵢ uᵢ vᵢᵀ the residual along uᵢ falls as exp(-2 sᵢ² t), so that
    L(t) = Σ ‖uᵢᵀE‖² exp(-4 sᵢ² t) + what no V can fit.  Null directions of H do not appear.
    """
    U, s, _ = torch.linalg.svd(task.X, full_matrices=False)
    E = residual(task, V)
    fitted = (U.mT @ E).square().sum(dim=1)  # (min(n, d_in),)
    decay = torch.exp(-4 * s.square() * times[:, None])  # (t, min(n, d_in))
    return decay @ fitted + (E.square().sum() - fitted.sum()).clamp(min=0)


def time_to_loss(
    task: Regression, V: Float[Tensor, "d_out d_in"], fraction: float, bisections: int = 60
) -> float:
    """Return when gradient flow from V has brought L down to `fraction` of its start.

    Infinite where the best fit is worse than that.  Raises ValueError unless 0 < `fraction` < 1.
    """
    slowest = time_to_fraction(eigenvalues(task.X)[eigenvalues(task.X) > 0][-1], fraction).item()
    goal = fraction * loss(task, V).item()

    def above(time: float) -> bool:
        return flow_losses(task, V, task.X.new_tensor([time])).item() > goal

    low, high = 0.0, 100 * slowest  # no nonzero direction is left after this
    if above(high):
        return math.inf
    for _ in range(bisections):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) else (low, middle)
    return high
