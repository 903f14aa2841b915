"""Linear layers side by side, each with inputs of its own: no module can stand in for another."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from allora_lab.checks import require_at_least


class Block(nn.Module):
    """relu(left(x_1)) + relu(right(x_2)), with left and right (d, d) and x (n, 2, d)."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.left = nn.Linear(d, d, bias=False)
        self.right = nn.Linear(d, d, bias=False)

    def forward(self, x: Float[Tensor, "n 2 d"]) -> Float[Tensor, "n d"]:
        """Return the block's output."""
        return torch.relu(self.left(x[:, 0])) + torch.relu(self.right(x[:, 1]))


class ParallelMLP(nn.Module):
    """A fixed readout of the sum of `blocks` blocks; `model(x, labels)` gives .logits and .loss.

    Every linear layer reads d inputs that no other reads, x (n, 2 · blocks, d).

    Parameters
    ----------
    d, classes, blocks
        Inputs of a layer, outputs, and how many blocks.
    generator
        Draws every weight, normal with variance 1 / fan_in.
    """

    def __init__(self, d: int, classes: int, blocks: int, generator: torch.Generator) -> None:
        super().__init__()
        for name, size in (("d", d), ("classes", classes), ("blocks", blocks)):
            require_at_least(name, size, 1)
        self.blocks = nn.ModuleList(Block(d) for _ in range(blocks))
        self.norm = nn.LayerNorm(d, elementwise_affine=False)
        self.readout = nn.Linear(d, classes, bias=False)
        with torch.no_grad():
            for parameter in self.parameters():
                std = parameter.shape[1] ** -0.5
                parameter.copy_(std * torch.randn(parameter.shape, generator=generator))

    def forward(
        self, x: Float[Tensor, "n layers d"], labels: Tensor | None = None
    ) -> SimpleNamespace:
        """Return the logits (n, classes) and, where labels are given, the mean cross-entropy."""
        total = sum(block(x[:, 2 * i : 2 * i + 2]) for i, block in enumerate(self.blocks))
        logits = self.readout(self.norm(total))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SimpleNamespace(logits=logits, loss=loss)
