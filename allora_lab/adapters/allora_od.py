r"""ALLoRA-OD: the adaptive learning rate taken from the output (arXiv 2410.09692, §4.3).

As ALLoRA, but the coefficient belongs to one token and one output entry,

    acc_ti = 1 / √(|f_ti| + 1/η²),      f = B A dropout(x),
    ∇B = (acc ∘ g)ᵀ (x Aᵀ)        ∇A = ((acc ∘ g) B)ᵀ x        ∇x = g B A .

The paper gives no listing for it; as in ALLoRA, the input's gradient is left unscaled (§4.2).
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from allora_lab.adapters.allora import refuse_second_backward
from allora_lab.adapters.base import AdaptiveLinear, linear_weight


class ScaleEntries(torch.autograd.Function):
    """x Aᵀ Bᵀ, each entry of the output gradient scaled by its own coefficient for A and B alone.

    Shapes: x (..., d_in), A (r, d_in), B (d_out, r), output (..., d_out).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, A: Tensor, B: Tensor, eta_squared: float) -> tuple[Tensor, Tensor]:
        """Return the output and h = x Aᵀ."""
        h = F.linear(x, A)
        return F.linear(h, B), h

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        """Save x, A, B and h: f is recomputed from h, for it is d_out / r times as large."""
        x, A, B, ctx.eta_squared = inputs
        _, h = output
        ctx.mark_non_differentiable(h)
        ctx.save_for_backward(x, A, B, h)

    @staticmethod
    def backward(ctx, g: Tensor, _h: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradients of x (unscaled), A and B (scaled token by token)."""
        x, A, B, h = ctx.saved_tensors
        scaled = g * torch.rsqrt(F.linear(h, B).abs() + 1 / ctx.eta_squared)
        g, scaled, x_rows, h_rows = (t.reshape(-1, t.shape[-1]) for t in (g, scaled, x, h))
        gradient_x = ((g @ B) @ A).reshape(x.shape) if ctx.needs_input_grad[0] else None
        gradients = gradient_x, (scaled @ B).T @ x_rows, scaled.T @ h_rows
        return *refuse_second_backward(gradients), None


class ALLoRAODLinear(AdaptiveLinear):
    """A frozen linear layer plus BA that learns at a rate set by each output; see the module."""

    is_plain_lora: ClassVar[bool] = True

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """Return W x + b + B A dropout(x)."""
        y = self.base_layer(x)
        x, A, B = (t.to(y.dtype) for t in (self.dropout(x), self.lora_A, self.lora_B))
        return y + ScaleEntries.apply(x, A, B, self.eta_squared)[0]

    @torch.no_grad()
    def merged_weight(self) -> Float[Tensor, "d_out d_in"]:
        """Return W + BA."""
        return linear_weight(self.base_layer) + self.lora_B @ self.lora_A
