r"""LoRA (Hu et al. 2021, arXiv 2106.09685), and its relatives that differ only in the scaling.

    y = W x + b + s · B A dropout(x)                                              (§4.1, eq. 3)

LoRA has s = α / r; rsLoRA (Kalajdzievski 2023, arXiv 2312.03732) s = α / √r; ALLoRA's §5.2 calls
"LoRA × η" the fixed s = η.  Dropout acts on the input of A, as in loralib and PEFT; ALLoRA's text
drops the output or the bottleneck instead.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from allora_lab.adapters.base import AdaptedLinear, linear_weight


class LoRALinear(AdaptedLinear):
    """A frozen linear layer plus s · BA; see the module's formula and the base class."""

    is_plain_lora: ClassVar[bool] = True

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """Return W x + b + s · B A dropout(x)."""
        h = F.linear(self.dropout(x), self.lora_A.to(x.dtype))  # (..., r), in the model's type
        if self.scaling != 1:
            h = self.scaling * h  # on the narrow side: r columns, not d_out
        return self.base_layer(x) + F.linear(h, self.lora_B.to(h.dtype))

    @torch.no_grad()
    def merged_weight(self) -> Float[Tensor, "d_out d_in"]:
        """Return W + s · BA."""
        return linear_weight(self.base_layer) + self.scaling * self.lora_B @ self.lora_A
