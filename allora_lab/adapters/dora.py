r"""DoRA (Liu et al. 2024, arXiv 2402.09353): direction and magnitude of each output row apart.

    y = m ∘ (W x + s · B A dropout(x)) / ||W + s·BA|| + b,    m = ||W|| at the start      (eq. 5)

||·|| is the norm of each output row, held constant in the backward pass (§4.3).  The bias is not
scaled.  Dropout reaches A alone: the base path sees x whole, where PEFT sends the dropped x
through the magnitude term too; without dropout the two agree.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from allora_lab.adapters.base import AdaptedLinear, linear_weight


class DoRALinear(AdaptedLinear):
    """A frozen linear layer whose rows have a trained magnitude and a low-rank change of direction.

    Besides A and B it trains `lora_magnitude_vector`, m of shape (d_out,), which starts at the row
    norms of W, so that the layer starts as the pretrained one.
    """

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
        self.lora_magnitude_vector = nn.Parameter(linear_weight(base_layer).norm(dim=1))

    @torch.no_grad()
    def direction_norms(self) -> Float[Tensor, " d_out"]:
        """Return ||(W + s·BA)_i|| of each row, without forming BA.

        ||W + sBA||² = ||W||² + 2s Σ ((W Aᵀ) ∘ B) + s² ||BA||², row by row.
        """
        W, A, B, s = linear_weight(self.base_layer), self.lora_A, self.lora_B, self.scaling
        W = W.to(torch.promote_types(W.dtype, A.dtype))  # factors may be wider than weights
        cross = ((W @ A.T) * B).sum(dim=1)
        squares = W.square().sum(dim=1) + 2 * s * cross + (s * self.row_norms()) ** 2
        return squares.sqrt().clamp_min(torch.finfo(W.dtype).tiny)  # a row of zeros stays one

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """Return m ∘ (W x + s · B A dropout(x)) / ||W + s·BA|| + b."""
        h = self.scaling * F.linear(self.dropout(x), self.lora_A.to(x.dtype))
        direction = F.linear(x, linear_weight(self.base_layer))
        direction = direction + F.linear(h, self.lora_B.to(h.dtype))
        ratio = (self.lora_magnitude_vector / self.direction_norms()).to(direction.dtype)
        y = ratio * direction
        return y if self.base_layer.bias is None else y + self.base_layer.bias.to(y.dtype)

    @torch.no_grad()
    def merged_weight(self) -> Float[Tensor, "d_out d_in"]:
        """Return m ∘ (W + s·BA) / ||W + s·BA||, row by row."""
        direction = linear_weight(self.base_layer) + self.scaling * self.lora_B @ self.lora_A
        norms = direction.norm(dim=1).clamp_min(torch.finfo(direction.dtype).tiny)
        return (self.lora_magnitude_vector / norms)[:, None] * direction
