r"""ALoRA-DNAS: gates relaxed to real numbers and learned (ALoRA, arXiv 2403.16187, §3.3 and Table 6).

    y = W x + b + s · B (a' ∘ A dropout(x)),        a' = 2 sigmoid(t)

t starts at 0, so a' starts at 1.  t is learned on the second half of the training set and A and B
on the first (bi-level, as in DARTS): see `allocation.bilevel`.  A rank's a' is its importance score.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from allora_lab.adapters.gated import GatedLinear


class RelaxedGateLinear(GatedLinear):
    """A gated layer whose gates are 2 sigmoid(t), with t (r,) trained as `lora_gate_logit`."""

    RANK_AXIS: ClassVar[dict[str, int]] = {**GatedLinear.RANK_AXIS, "lora_gate_logit": 0}

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
        self.lora_gate_logit = nn.Parameter(self.lora_A.new_zeros(r))

    def gates(self) -> Float[Tensor, " r"]:
        """Return a' = 2 sigmoid(t)."""
        return 2 * torch.sigmoid(self.lora_gate_logit)
