r"""ALLoRA: an adaptive learning rate per output row (arXiv 2410.09692, §4.2 and listing 1).

The forward pass is LoRA's with s = 1.  With g the gradient of the output,

    acc_i = 1 / √(||(BA)_i|| + 1/η²)
    ∇B = diag(acc) gᵀ (x Aᵀ)        ∇A = (diag(acc) B)ᵀ gᵀ x        ∇x = g B A

so row i learns η times as fast while it is near zero and slows down as it grows, and the gradient
handed to the layer below is exactly LoRA's.  Rescaled gradients are the gradient of no function:
a second backward pass is refused.  Adam-like optimizers divide the coefficient out again; the
method `allora-update` is this project's form that survives them.

Listing 1 forms BA in every forward pass, takes three-dimensional input only, and names a class
that does not exist; here the norms come from an r × r product and x has any leading dimensions.
The names follow the arXiv text: ALLoRA has no dropout, and `allora-dropout` is the one with 0.05
that the ICLR submission calls ALLoRA.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from allora_lab.adapters.base import AdaptiveLinear, gram_row_norms, linear_weight


@torch.no_grad()
def row_coefficients(
    A: Float[Tensor, "r d_in"], B: Float[Tensor, "d_out r"], eta_squared: float
) -> Float[Tensor, " d_out"]:
    """Return acc_i = 1 / √(||(BA)_i|| + 1/η²): η where the row is zero, less as it grows (§4.2)."""
    return torch.rsqrt(gram_row_norms(A, B) + 1 / eta_squared)


class RefuseSecondBackward(torch.autograd.Function):
    """The identity, whose own gradient is refused."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor) -> Tensor:
        """Return the gradient as it is."""
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        """Keep nothing."""

    @staticmethod
    def backward(ctx, _gradient: Tensor) -> Tensor:
        """Raise RuntimeError."""
        raise RuntimeError(
            "ALLoRA's rescaled gradients are the gradient of no function, so they cannot be "
            "differentiated again: use method 'lora' where second derivatives are needed"
        )


def refuse_second_backward(gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """Return the gradients, guarded against being differentiated when autograd records them."""
    if not torch.is_grad_enabled():  # an ordinary backward pass, which records nothing
        return gradients
    return tuple(None if g is None else RefuseSecondBackward.apply(g) for g in gradients)


class ScaleRows(torch.autograd.Function):
    """y + x Aᵀ Bᵀ, with row i of the output gradient scaled by acc_i for A and B alone.

    Shapes: y (..., d_out), x (..., d_in), A (r, d_in), B (d_out, r).  Products are taken in y's
    type (autocast's, if it is on); acc comes from A and B as they are, and only in the backward
    pass, so that it costs no memory in between.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        y: Tensor, x: Tensor, A: Tensor, B: Tensor, eta_squared: float
    ) -> tuple[Tensor, Tensor]:
        """Return the output and h = x Aᵀ, (tokens, r), which the backward pass needs again."""
        h = x.reshape(-1, x.shape[-1]) @ A.to(y.dtype).T
        return torch.addmm(y.reshape(-1, y.shape[-1]), h, B.to(y.dtype).T).reshape(y.shape), h

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        """Save x, A, B and h; no gradient flows through h."""
        _, x, A, B, ctx.eta_squared = inputs
        _, h = output
        ctx.mark_non_differentiable(h)
        ctx.save_for_backward(x, A, B, h)

    @staticmethod
    def backward(ctx, g: Tensor, _h: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradients of y and x (unscaled), A and B (scaled)."""
        x, A, B, h = ctx.saved_tensors
        acc = row_coefficients(A, B, ctx.eta_squared).to(g.dtype)[:, None]
        A, B = A.to(g.dtype), B.to(g.dtype)
        rows, x_rows = g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])  # (tokens, features)
        both = rows @ torch.cat((acc * B, B), dim=1)  # (tokens, 2r): one pass over g, not two
        scaled, plain = both.split(B.shape[1], dim=1)
        gradient_x = (plain @ A).reshape(x.shape) if ctx.needs_input_grad[1] else None
        gradient_A, gradient_B = scaled.T @ x_rows, acc * (rows.T @ h)
        return *refuse_second_backward((g, gradient_x, gradient_A, gradient_B)), None


class ALLoRALinear(AdaptiveLinear):
    """A frozen linear layer plus BA whose rows learn at an adaptive rate; η² is `eta_squared`.

    Works with any leading dimensions, in float32, float64 and bfloat16, under autocast, gradient
    checkpointing, `torch.func.vmap` and `torch.compile`; a second backward pass is refused.
    """

    is_plain_lora: ClassVar[bool] = True

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """Return W x + b + B A dropout(x)."""
        y = self.base_layer(x)
        x = self.dropout(x).to(y.dtype)  # autocast's type, if it is on
        return ScaleRows.apply(y, x, self.lora_A, self.lora_B, self.eta_squared)[0]

    @torch.no_grad()
    def merged_weight(self) -> Float[Tensor, "d_out d_in"]:
        """Return W + BA."""
        return linear_weight(self.base_layer) + self.lora_B @ self.lora_A
