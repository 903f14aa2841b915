r"""AdaLoRA: the update as a singular value decomposition (Zhang et al. 2023, arXiv 2303.10512).

    y = W x + b + s · P (λ ∘ Q dropout(x))                                               (eq. 3)

Q (r, d_in) is `lora_A`, P (d_out, r) is `lora_B`, λ (r,) is `lora_E`.  P and Q start normal with
standard deviation 0.02, λ at zero, as in the authors' code.  The loss gains a pull towards
PᵀP = QQᵀ = I, and a schedule of importance scores zeroes the λ beyond a falling budget: see
`allocation.singular_values`.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from allora_lab.adapters.gated import GatedLinear

START_STD = 0.02


class AdaLoRALinear(GatedLinear):
    """A gated layer in SVD form, whose gates are the singular values λ (r,), trained as `lora_E`."""

    RANK_AXIS: ClassVar[dict[str, int]] = {**GatedLinear.RANK_AXIS, "lora_E": 0}

    def __init__(
        self,
        base_layer: nn.Module,
        *,
        r: int,
        scaling: float,
        lora_dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            base_layer, r=r, scaling=scaling, lora_dropout=lora_dropout, generator=generator
        )
        self.lora_E = nn.Parameter(self.lora_A.new_zeros(r))
        with torch.no_grad():
            for factor in (self.lora_A, self.lora_B):
                start = torch.randn(factor.shape, generator=generator, dtype=torch.float32)
                factor.copy_(START_STD * start)

    def gates(self) -> Float[Tensor, " r"]:
        """Return λ."""
        return self.lora_E
