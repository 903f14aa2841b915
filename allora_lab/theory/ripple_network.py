r"""Stacks of adapted layers to measure: random orthogonal weights, random or aligned adapters.

    multi-linear    h_l = (W_l + s B_l A_l) h_{l-1}                     (ALLoRA, arXiv 2410.09692, §3.3)

and the three architectures of `through_depth`, which the paper leaves out.  All arrays carry n
independent networks: W (n, L, d, d), A (n, L, r, d), B (n, L, d, r), x (n, d).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from allora_lab.checks import require_known
from allora_lab.theory.ripple import ARCHITECTURES, require_not_negative


def layer_norm(x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    """Return (x - mean) / std over the last axis, without weights: its length is √d whatever x's."""
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / centred.square().mean(dim=-1, keepdim=True).sqrt()


def random_weights(
    n: int, L: int, d: int, generator: torch.Generator
) -> Float[Tensor, "{n} {L} {d} {d}"]:
    """Return n stacks of L orthogonal matrices, uniform (Haar): every ||W_l|| is 1, C is 1."""
    Q, R = torch.linalg.qr(torch.randn(n, L, d, d, generator=generator, dtype=torch.float64))
    return Q * torch.diagonal(R, dim1=-2, dim2=-1).sign().unsqueeze(-2)


def random_factors(
    n: int, L: int, d: int, r: int, generator: torch.Generator
) -> tuple[Float[Tensor, "{n} {L} {r} {d}"], Float[Tensor, "{n} {L} {d} {r}"]]:
    """Return A and B with independent normal entries, scaled so that every ||B_l A_l|| is 1."""
    A = torch.randn(n, L, r, d, generator=generator, dtype=torch.float64)
    B = torch.randn(n, L, d, r, generator=generator, dtype=torch.float64)
    of_A, of_B = torch.linalg.qr(A.mT).R, torch.linalg.qr(B).R  # BA and this r x r have one norm
    return A, B / torch.linalg.matrix_norm(of_B @ of_A.mT, ord=2)[..., None, None]


def apply(M: Float[Tensor, "n i j"], x: Float[Tensor, "n j"]) -> Float[Tensor, "n i"]:
    """Return M x for each network."""
    return torch.linalg.vecdot(M, x.unsqueeze(-2))


def adapted_layer(
    architecture: str,
    h: Float[Tensor, "n d"],
    W: Float[Tensor, "n d d"],
    A: Float[Tensor, "n r d"],
    B: Float[Tensor, "n d r"],
) -> Float[Tensor, "n d"]:
    """Return one layer's output, F(z) = (W + B A) z inside the architecture; s is within B."""
    z = layer_norm(h) if architecture == "pre-layernorm" else h
    out = apply(W, z) + apply(B, apply(A, z))
    return finish(architecture, out if architecture == "multi-linear" else h + out)


def finish(architecture: str, out: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Return a layer's output after the LayerNorm that may follow it."""
    return layer_norm(out) if architecture == "post-layernorm" else out


def hidden_states(
    architecture: str,
    x: Float[Tensor, "n d"],
    W: Float[Tensor, "n L d d"],
    A: Float[Tensor, "n L r d"],
    B: Float[Tensor, "n L d r"],
    scaling: float,
) -> Float[Tensor, "n L+1 d"]:
    """Return x and the output of every layer, adapted by s B_l A_l; scaling 0 is the pretrained one."""
    require_known("architecture", architecture, ARCHITECTURES)
    require_not_negative("scaling", scaling)
    states = [x]
    for layer in range(W.shape[1]):
        factors = W[:, layer], A[:, layer], scaling * B[:, layer]
        states.append(adapted_layer(architecture, states[-1], *factors))
    return torch.stack(states, dim=1)


def towards(
    direction: Float[Tensor, "n d"], other: Float[Tensor, "n d"], cosine: float
) -> Float[Tensor, "n d"]:
    """Return unit vectors at a given cosine to `direction`, leaning towards `other`."""
    unit = F.normalize(direction, dim=-1)
    across = F.normalize(other - (other * unit).sum(dim=-1, keepdim=True) * unit, dim=-1)
    return cosine * unit + (1 - cosine**2) ** 0.5 * across


def aligned_network(
    architecture: str,
    x: Float[Tensor, "n d"],
    W: Float[Tensor, "n L d d"],
    others: Float[Tensor, "n L 2 d"],
    *,
    ratio: float,
    scaling: float,
    alignment: float,
) -> tuple[Float[Tensor, "n L 1 d"], Float[Tensor, "n L d 1"], Float[Tensor, "n L+1 d"]]:
    """Return rank-one A and B of norm ||B_l A_l|| = m, chosen for the signal, and the hidden states.

    B_l A_l = m u vᵀ, where v has the cosine `alignment` with the layer's input and u with the
    layer's pretrained output (before a LayerNorm that follows).  Alignment 1 reaches the paper's
    bound in the multi-linear model with orthogonal W; 0 leaves the signal as it was.

    Parameters
    ----------
    others
        Random vectors, two a layer, which v and u lean towards where the alignment is below 1.
    ratio, scaling
        m, and s, on which the signal that reaches a layer depends.
    """
    require_known("architecture", architecture, ARCHITECTURES)
    require_not_negative("scaling", scaling)
    states, rows, columns = [x], [], []
    for layer in range(W.shape[1]):
        h = states[-1]
        z = layer_norm(h) if architecture == "pre-layernorm" else h
        plain = apply(W[:, layer], z)
        target = plain if architecture == "multi-linear" else h + plain
        rows.append(towards(z, others[:, layer, 0], alignment).unsqueeze(-2))
        columns.append(ratio * towards(target, others[:, layer, 1], alignment).unsqueeze(-1))
        update = scaling * apply(columns[-1], apply(rows[-1], z))
        states.append(finish(architecture, target + update))
    return torch.stack(rows, dim=1), torch.stack(columns, dim=1), torch.stack(states, dim=1)


def relative_change(
    adapted: Float[Tensor, "... d"], plain: Float[Tensor, "... d"]
) -> Float[Tensor, "..."]:
    """Return ||h_s - h_0|| / ||h_0||: unlike the growth of the norm, it also sees a turn.

    For independent random directions in the multi-linear model E h_s = h_0, so the mean square of
    the change is the mean squared growth less 1.
    """
    return (adapted - plain).norm(dim=-1) / plain.norm(dim=-1)


def growth(adapted: Float[Tensor, "... d"], plain: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
    """Return ||h_s|| / ||h_0||, the quantity that §3.3 bounds."""
    return adapted.norm(dim=-1) / plain.norm(dim=-1)
