r"""ASF-LoRA: an adaptive scaling factor on the output (ALLoRA, arXiv 2410.09692, §4.3).

    y = W x + b + f / √(|f| + 1/η²),      f = B A dropout(x)

The gradient is the natural one of this function.  The factor depends on the input, so no single
weight computes the same: ASF-LoRA cannot be merged (§4.3, last paragraph).
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from allora_lab.adapters.base import AdaptiveLinear


class ASFLoRALinear(AdaptiveLinear):
    """A frozen linear layer plus f / √(|f| + 1/η²), entry by entry; cannot be merged."""

    is_mergeable: ClassVar[bool] = False

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """Return W x + b + f / √(|f| + 1/η²) with f = B A dropout(x)."""
        h = F.linear(self.dropout(x), self.lora_A.to(x.dtype))  # (..., r), in the model's type
        f = F.linear(h, self.lora_B.to(h.dtype))
        return self.base_layer(x) + f * torch.rsqrt(f.abs() + 1 / self.eta_squared)

    def merged_weight(self) -> Float[Tensor, "d_out d_in"]:
        """Raise ValueError: the scaling depends on the input."""
        raise ValueError(
            "asf-lora cannot be merged: its scaling depends on the input; keep the adapter, or "
            "train with allora or lora-fixed-scale"
        )
