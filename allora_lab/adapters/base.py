"""What every adapter is: a frozen linear layer plus a trainable low-rank update."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from allora_lab.checks import require_at_least, require_eta_squared, require_probability


def linear_weight(layer: nn.Module) -> Float[Tensor, "d_out d_in"]:
    """Return a layer's weight as `nn.Linear` stores it; GPT-2's Conv1D stores the transpose."""
    return layer.weight.T if isinstance(layer, Conv1D) else layer.weight


def gram_row_norms(
    A: Float[Tensor, "r d_in"], B: Float[Tensor, "d_out r"]
) -> Float[Tensor, " d_out"]:
    """Return ||(BA)_i|| for each output row i, in float32 or better, without forming BA.

    ||(BA)_i||² = Σ_k ((B (A Aᵀ)) ∘ B)_ik, so an r × r product stands in for a d_out × d_in one.  The
    terms of this sum can cancel, and its square root would keep half of the digits; so it is taken
    in float64, where the error of a norm is at most about 1e-7 of ||B_i|| ||A||, as that of BA
    itself in float32.  Apple's GPUs have no float64: there it is 1e-3 of it.
    """
    shown = torch.promote_types(A.dtype, torch.float32)
    wide = shown if A.device.type == "mps" else torch.float64
    A, B = A.to(wide), B.to(wide)
    return torch.linalg.vecdot(B @ (A @ A.T), B).clamp_min(0).sqrt().to(shown)


class AdaptedLinear(nn.Module, ABC):
    """A frozen linear layer W and the factors A (r, d_in) and B (d_out, r) of its update BA.

    A starts uniform in ±1/√d_in (`kaiming_uniform_` with a = √5, as LoRA's authors' code and PEFT
    do) and B starts at zero, so the adapted layer first computes exactly what the pretrained one
    did.  Subclasses are final: each is one method, and says how it forwards and how it merges; whether
    it can be merged (`is_mergeable`); and whether its update is s · BA, at most with gates between, so
    that plain PEFT can compute it (`is_plain_lora`).  A subclass freezes a factor that stays as it
    starts by `requires_grad_(False)`; it is saved and loaded with the others.

    Parameters
    ----------
    base_layer
        The pretrained `nn.Linear` or `Conv1D`; frozen here.
    r
        Rank of the update, from 1 to min(d_in, d_out).
    scaling
        The factor s of sBA in the forward pass.
    lora_dropout
        Probability of zeroing an entry of x before A sees it; the base layer sees x whole.
    generator
        Source of A's random start; None uses torch's global one.

    Raises
    ------
    ValueError
        If r lies outside 1 to min(d_in, d_out), or lora_dropout outside [0, 1).
    """

    is_mergeable: ClassVar[bool] = True
    is_plain_lora: ClassVar[bool] = False

    def __init__(
        self,
        base_layer: nn.Module,
        *,
        r: int,
        scaling: float,
        lora_dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        weight = linear_weight(base_layer)
        d_out, d_in = weight.shape
        require_at_least("r", r, 1)
        if r > min(d_out, d_in):
            raise ValueError(
                f"r must be at most {min(d_out, d_in)} for a {d_out} x {d_in} layer, got {r}"
            )
        require_probability("lora_dropout", lora_dropout)
        self.base_layer = base_layer.requires_grad_(False)
        self.r = r
        self.scaling = scaling
        self.dropout = nn.Dropout(lora_dropout) if lora_dropout else nn.Identity()
        self.lora_A = nn.Parameter(weight.new_empty(r, d_in))
        self.lora_B = nn.Parameter(weight.new_zeros(d_out, r))
        start = torch.empty(
            r, d_in, dtype=torch.float32
        )  # drawn on the CPU in float32: the same start on every device
        nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=generator)
        with torch.no_grad():
            self.lora_A.copy_(start)

    @abstractmethod
    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """Return the adapted layer's output."""

    @abstractmethod
    def merged_weight(self) -> Float[Tensor, "d_out d_in"]:
        """Return the one weight that computes the same as the adapted layer without dropout."""

    @torch.no_grad()
    def delta_weight(self) -> Float[Tensor, "d_out d_in"]:
        """Return what a merge adds to the pretrained weight."""
        return self.merged_weight() - linear_weight(self.base_layer)

    @torch.no_grad()
    def row_norms(self) -> Float[Tensor, " d_out"]:
        """Return ||(BA)_i||, the quantity that starts at zero; s and DoRA's m are left out."""
        return gram_row_norms(self.lora_A, self.lora_B)

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """Write the merged weight into the base layer and return that layer."""
        merged = self.merged_weight()
        linear_weight(self.base_layer).copy_(merged)  # Conv1D: .T is a view, so this writes through
        return self.base_layer


class AdaptiveLinear(AdaptedLinear):
    """An adapted layer with s = 1 and the setting η² (`eta_squared`): the ALLoRA family.

    Raises
    ------
    ValueError
        If eta_squared is not above 0 and at most 1e6, besides what `AdaptedLinear` refuses.
    """

    def __init__(
        self,
        base_layer: nn.Module,
        *,
        r: int,
        eta_squared: float,
        lora_dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        require_eta_squared(eta_squared)
        super().__init__(
            base_layer, r=r, scaling=1.0, lora_dropout=lora_dropout, generator=generator
        )
        self.eta_squared = eta_squared
