"""One layer under every method: what each does to the output and to the three gradients.

All methods are given the same pretrained layer, the same A and B and the same gradient from above,
so that what differs is the method alone.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from allora_lab.build import resolve_settings
from allora_lab.methods import METHODS

QUANTITIES = ("output", "∇B", "∇A", "∇x")


@dataclass(frozen=True)
class LayerCase:
    """The pretrained layer, its input x (n, d_in) and the gradient g (n, d_out) from above."""

    layer: nn.Linear
    x: Float[Tensor, "n d_in"]
    g: Float[Tensor, "n d_out"]


def random_case(d: int = 64, n: int = 48, seed: int = 0) -> LayerCase:
    """Return a random d x d layer in float64, unit-normal inputs and gradients."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(d, d, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.normal_(std=d**-0.5, generator=generator)
        layer.bias.zero_()
    draw = {"generator": generator, "dtype": torch.float64}
    return LayerCase(layer, torch.randn(n, d, **draw), torch.randn(n, d, **draw))


# methods that give ranks away train in this layer as LoRA does, so they have no row here
RULES = tuple(key for key, row in METHODS.items() if row.build_hook is None)


def _gradient(factor: nn.Parameter) -> Tensor:
    """Return what backward left; a factor that the method freezes has no gradient, so 0."""
    return torch.zeros_like(factor) if factor.grad is None else factor.grad


def responses(
    case: LayerCase, *, method: str, eta_squared: float, r: int, row_norm: float, seed: int = 0
) -> dict[str, Tensor]:
    """Return the change of the output, the gradients of B and A, and that of x less W's share.

    What starts at zero, which is B but in methods with tensors of their own, is random instead,
    scaled so that the mean of ||(BA)_i|| is `row_norm`; A starts as LoRA's.  Dropout is off.
    """
    row = METHODS[method]
    settings = resolve_settings(
        row,
        r=r,
        lora_alpha=None,
        lora_dropout=0.0,
        eta_squared=eta_squared,
        generator=torch.Generator().manual_seed(seed),
    )
    adapted = row.build(case.layer, settings).eval()
    trained = [p for p in adapted.parameters() if p.requires_grad]
    moved = [p for p in trained if not p.any()] or [adapted.lora_B]
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for tensor in moved:
            tensor.normal_(generator=generator)
        moved[0].mul_(row_norm / adapted.row_norms().mean())
    x = case.x.clone().requires_grad_()
    y = adapted(x)
    y.backward(case.g)
    return {
        "output": y.detach() - case.layer(case.x).detach(),
        "∇B": _gradient(adapted.lora_B),
        "∇A": _gradient(adapted.lora_A),
        "∇x": x.grad - case.g @ case.layer.weight,
    }


def ratios_to_lora(
    case: LayerCase, *, eta_squared: float, r: int, row_norm: float
) -> dict[str, dict[str, float]]:
    """Return, for each method, the norm of each response over LoRA's (with s = 1)."""
    same = {"eta_squared": eta_squared, "r": r, "row_norm": row_norm}
    every = {method: responses(case, method=method, **same) for method in RULES}
    return {
        method: {q: (got[q].norm() / every["lora"][q].norm()).item() for q in QUANTITIES}
        for method, got in every.items()
    }
