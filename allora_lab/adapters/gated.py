r"""Gated LoRA: a gate on every rank, and ranks that come and go (ALoRA, arXiv 2403.16187, §3.2).

    z = x W_A G W_B,  G = diag(a_1 .. a_r)                                                (eq. 3)

In this package's letters y = W x + b + s · B (g ∘ A dropout(x)), with A (r, d_in), B (d_out, r) and
g (r,).  ALoRA holds the gates at 0 or 1 and trains A and B alone; a gate of 0 is no mask here: the
row of A and the column of B leave the tensors, and new ones are appended, so that memory is freed
and taken.  s stays what it was at the start, so that the ranks that stay go on computing what they
did.  SoRA, AdaLoRA and the relaxed gates of ALoRA-DNAS are the same forward pass with other gates.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from allora_lab.adapters.base import AdaptedLinear, gram_row_norms, linear_weight


class GatedLinear(AdaptedLinear):
    """A frozen linear layer plus s · B diag(g) A; here g is frozen at 1, subclasses train it.

    `r` may fall to 0 by `resize`: then the layer is the pretrained one.  `RANK_AXIS` says which axis
    of each trained tensor counts the ranks.
    """

    is_plain_lora: ClassVar[bool] = True

    RANK_AXIS: ClassVar[dict[str, int]] = {"lora_A": 0, "lora_B": 1}

    def gates(self) -> Float[Tensor, " r"]:
        """Return g, one value a rank."""
        return self.lora_A.new_ones(self.r)

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """Return W x + b + s · B (g ∘ A dropout(x))."""
        h = F.linear(self.dropout(x), self.lora_A.to(x.dtype))  # (..., r), in the model's type
        h = h * (self.scaling * self.gates()).to(h.dtype)
        return self.base_layer(x) + F.linear(h, self.lora_B.to(h.dtype))

    @torch.no_grad()
    def gated_A(self) -> Float[Tensor, "r d_in"]:
        """Return diag(g) A, so that ΔW = s · B diag(g) A is a plain LoRA of this and B."""
        return self.gates()[:, None] * self.lora_A

    @torch.no_grad()
    def merged_weight(self) -> Float[Tensor, "d_out d_in"]:
        """Return W + s · B diag(g) A."""
        return linear_weight(self.base_layer) + self.scaling * self.lora_B @ self.gated_A()

    @torch.no_grad()
    def row_norms(self) -> Float[Tensor, " d_out"]:
        """Return ||(B diag(g) A)_i|| of each output row; s is left out."""
        return gram_row_norms(self.gated_A(), self.lora_B)

    @torch.no_grad()
    def rank_norms(self) -> Float[Tensor, " r"]:
        """Return ||s g_k B_k A_k||_F of each rank k: how much of the update is its."""
        return (
            (self.scaling * self.gates()).abs() * self.lora_B.norm(dim=0) * self.lora_A.norm(dim=1)
        )

    @torch.no_grad()
    def resize(
        self, keep: Int[Tensor, " kept"], added_A: Float[Tensor, "added d_in"]
    ) -> dict[nn.Parameter, nn.Parameter]:
        """Keep the ranks `keep`, append ranks with rows `added_A` and zero columns of B; old to new.

        The tensors are replaced by smaller or larger ones.  Since new columns of B are zero, the
        layer computes the same function with new ranks as without them.  An optimizer must be told:
        `allocation.resize.resize_ranks` does both.
        """
        starts = {"lora_A": added_A}
        replaced = {}
        for name, axis in self.RANK_AXIS.items():
            old = getattr(self, name)
            shape = list(old.shape)
            shape[axis] = len(added_A)
            new_part = starts.get(name, torch.zeros(shape)).to(old)
            new = nn.Parameter(
                torch.cat((old.index_select(axis, keep.to(old.device)), new_part), axis)
            )
            new.requires_grad_(old.requires_grad)
            setattr(self, name, new)
            replaced[old] = new
        self.r = self.lora_A.shape[0]
        return replaced
