r"""The adaptive function 1 / √(|x| + 1/η²) and what it does to a row of BA on its way from zero.

ALLoRA (arXiv 2410.09692), §4.2, §4.3 and Figure 5 (appendix C).  With n = ||(BA)_i|| and c = 1/η²:

    ALLoRA       gradient of row i times  acc(n) = (n + c)^(-1/2)
    ALLoRA-OD    the same of |f_i|, f_i = (BA)_i x: another factor for every token
    ASF-LoRA     output f (|f| + c)^(-1/2); its derivative multiplies the gradient
    LoRA x η     η, whatever the row does

The paper calls acc "inversely proportional to" the norm; it falls as one over the square root, and
only where n is large against 1/η².  A row pulled by a constant gradient g moves as

    dn/dt = g (n + c)^(-1/2)   =>   n(t) = (3/2 g t + η^-3)^(2/3) - 1/η² ,                 (row_norm)

at first as η g t, as LoRA at η times the rate, later as t^(2/3): slower, yet without a level it
stops at.  acc is never 0, so this row rests only where its gradient does.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from allora_lab.checks import require_positive


def adaptive_coefficient(size: Float[Tensor, "..."], eta_squared: float) -> Float[Tensor, "..."]:
    """Return acc = 1 / √(|x| + 1/η²): η at 0, then less (§4.2; the paper's Figure 5).

    Parameters
    ----------
    size
        A row norm ||(BA)_i|| (ALLoRA), or an output (BA)_i x (ALLoRA-OD, ASF-LoRA).
    eta_squared
        η², a finite number above 0; ValueError otherwise.
    """
    require_positive("eta_squared", eta_squared)
    return torch.rsqrt(size.abs() + 1 / eta_squared)


def local_exponent(norm: Float[Tensor, "..."], eta_squared: float) -> Float[Tensor, "..."]:
    """Return d log acc / d log n = -n / (2 (n + 1/η²)): 0 at zero, -1/2 far away, never the -1 said.

    At n = 1/η² it is -1/4: there acc has fallen from η to η/√2.
    """
    require_positive("eta_squared", eta_squared)
    return -norm / (2 * (norm + 1 / eta_squared))


def asf_output(f: Float[Tensor, "..."], eta_squared: float) -> Float[Tensor, "..."]:
    """Return ASF-LoRA's output f / √(|f| + 1/η²): η f near zero, sign(f) √|f| far away (§4.3)."""
    return f * adaptive_coefficient(f, eta_squared)


def asf_slope(f: Float[Tensor, "..."], eta_squared: float) -> Float[Tensor, "..."]:
    """Return the derivative of `asf_output`, (|f|/2 + c) / (|f| + c)^(3/2) with c = 1/η².

    It multiplies the gradients of A, B and also of the input; it is acc(f) near zero and acc(f) / 2
    far away.
    """
    require_positive("eta_squared", eta_squared)
    c = 1 / eta_squared
    return (f.abs() / 2 + c) / (f.abs() + c) ** 1.5


def output_coefficient(
    norm: Float[Tensor, " k"], eta_squared: float, points: int = 4001
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Return mean and standard deviation of ALLoRA-OD's acc(|f|) over tokens, for rows of norm n.

    The inputs x are normal with unit variance, so f = (BA)_i x is normal with standard deviation n:

        E acc(|f|)^k = ∫ 2 φ(z) (n z + 1/η²)^(-k/2) dz  over z > 0,   z = v² in the trapezoidal rule.

    acc is convex, so the mean is above acc(E|f|) = acc(√(2/π) n) (Jensen), hence above ALLoRA's
    acc(n); for large n it is 1.72 / √n.  Outputs near zero, of which every row has some, keep the
    coefficient η.
    """
    require_positive("eta_squared", eta_squared)
    v = torch.linspace(0, 3, points, dtype=norm.dtype)  # z up to 9
    density = 2 * v * math.sqrt(2 / math.pi) * torch.exp(-(v**4) / 2)
    density = density / torch.trapezoid(density, v)
    coefficients = adaptive_coefficient(norm[:, None] * v**2, eta_squared)
    mean = torch.trapezoid(density * coefficients, v)
    variance = torch.trapezoid(density * (coefficients - mean[:, None]) ** 2, v)
    return mean, variance.sqrt()


def row_norm(
    time: Float[Tensor, "..."], eta_squared: float, gradient: float = 1.0
) -> Float[Tensor, "..."]:
    """Return n(t) = (3/2 g t + η^-3)^(2/3) - 1/η², from n(0) = 0 under acc(n) and a constant g.

    `time` is lr times steps.  One row is followed and A is held, so that the row moves along one
    direction; in the paper's layer A moves too, and all rows share it.
    """
    require_positive("eta_squared", eta_squared)
    return (1.5 * gradient * time + eta_squared**-1.5) ** (2 / 3) - 1 / eta_squared


def time_to_norm(
    norm: Float[Tensor, "..."], eta_squared: float, gradient: float = 1.0
) -> Float[Tensor, "..."]:
    """Return the time at which `row_norm` is n: t = (2/3) ((n + 1/η²)^(3/2) - η^-3) / g."""
    require_positive("eta_squared", eta_squared)
    require_positive("gradient", gradient)
    return ((norm + 1 / eta_squared) ** 1.5 - eta_squared**-1.5) / (1.5 * gradient)


def taper_time(eta_squared: float, gradient: float = 1.0) -> float:
    """Return t = (2/3) η^-3 / g, where the two terms of `row_norm` are equal and the taper sets in.

    Long before it n grows as η g t, long after it as (3/2 g t)^(2/3); there n is (2^(2/3) - 1) / η² = 0.59 / η².
    """
    require_positive("eta_squared", eta_squared)
    require_positive("gradient", gradient)
    return eta_squared**-1.5 / (1.5 * gradient)
