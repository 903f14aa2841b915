r"""SoRA: a gate on every rank, trained towards zero (Ding et al. 2023, arXiv 2311.11696).

    y = W x + b + s · B (g ∘ A dropout(x))                                                 (§3.2)

A starts as LoRA's, B at zero, and g standard normal, as in the authors' code.  The loss gains
λ Σ|g| / #g, and after every step g is soft-thresholded, g ← sign(g) max(|g| - ξ, 0): see
`allocation.proximal`.  Ranks whose gate is zero at the end leave the tensors.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from allora_lab.adapters.gated import GatedLinear


class SoRALinear(GatedLinear):
    """A gated layer whose gates g (r,) are trained as `lora_gate`."""

    RANK_AXIS: ClassVar[dict[str, int]] = {**GatedLinear.RANK_AXIS, "lora_gate": 0}

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
        start = torch.randn(
            r, generator=generator, dtype=torch.float32
        )  # after A's, from the same source
        self.lora_gate = nn.Parameter(start.to(self.lora_A))

    def gates(self) -> Float[Tensor, " r"]:
        """Return g."""
        return self.lora_gate
