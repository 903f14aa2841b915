r"""SoRA's own part in training (Ding et al. 2023, arXiv 2311.11696, §3.2, and the authors' script).

The loss gains λ Σ|g| / #g; after every step g ← sign(g) max(|g| - ξ, 0), the proximal step of an L1
penalty.  The ranks whose gate is zero after the last step leave the tensors.  g is stepped by the
run's optimizer, whose state of g is g's own.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from allora_lab.allocation.hook import TrainingHook
from allora_lab.allocation.places import gated_layers, ranks_by_module
from allora_lab.allocation.resize import resize_ranks, set_ranks
from allora_lab.allocation.settings import HookContext


class ProximalGates(TrainingHook):
    """The L1 penalty, the soft threshold, and the cut at the end."""

    def __init__(self, context: HookContext) -> None:
        self.settings, self.steps = context.settings, context.steps
        self.optimizer, self.layers = context.optimizer, gated_layers(context.model)

    def penalty(self) -> Tensor:
        """Return λ Σ|g| / #g."""
        gates = torch.cat([layer.lora_gate for layer in self.layers.values()])
        return self.settings.gate_penalty * gates.abs().mean()

    @torch.no_grad()
    def after_step(self, done: int) -> Mapping[str, Any] | None:
        """Soft-threshold the gates; after the last step, drop the ranks whose gate is zero."""
        for layer in self.layers.values():
            g = layer.lora_gate
            g.copy_(g.sign() * (g.abs() - self.settings.gate_threshold).clamp_min(0))
        if done < self.steps:
            return None
        keep = {
            name: layer.lora_gate.nonzero().flatten().tolist()
            for name, layer in self.layers.items()
        }
        self.optimizer.zero_grad()
        resize_ranks(self.layers, keep, dict.fromkeys(keep, 0), optimizers=(self.optimizer,))
        return {"allocation": {"step": done, "ranks": ranks_by_module(self.layers)}}

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the ranks there are."""
        return {"ranks": ranks_by_module(self.layers)}, {}

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Give the layers the ranks they had."""
        set_ranks(self.layers, values["ranks"], (self.optimizer,))
