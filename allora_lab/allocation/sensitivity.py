r"""The smoothed sensitivity of AdaLoRA (Zhang et al. 2023, arXiv 2303.10512, §3.2, eqs. 8 to 11).

    I = |w · ∂L/∂w|        Ī ← β1 Ī + (1 - β1) I        Ū ← β2 Ū + (1 - β2) |I - Ī|        s = Ī · Ū

A rank's score is s of its gate plus the mean of s over its row of A and over its column of B.  A
gate frozen at g = 1 has a sensitivity too, for g_k and the column B_k stand in one product:
g_k ∂L/∂g_k = ⟨B_k, ∂L/∂B_k⟩.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from allora_lab.adapters.gated import GatedLinear

BETA1 = BETA2 = 0.85


def sensitivities(layer: GatedLinear) -> dict[str, Tensor]:
    """Return I of a layer's tensors, ranks first; {} before a gradient is there."""
    found = {}
    for name, axis in layer.RANK_AXIS.items():
        parameter = getattr(layer, name)
        if parameter.grad is None:
            return {}
        found[name] = (parameter * parameter.grad).abs().detach().movedim(axis, 0)
    if len(found) == len(GatedLinear.RANK_AXIS):  # no gate that is trained
        found["gate"] = (layer.lora_B * layer.lora_B.grad).sum(dim=0).abs().detach()
    return found


class Sensitivity:
    """Ī and Ū of every rank's tensors, kept up after every backward pass."""

    def __init__(self, layers: Mapping[str, GatedLinear]) -> None:
        self.layers = layers
        self.mean: dict[str, Tensor] = {}
        self.spread: dict[str, Tensor] = {}

    def update(self) -> None:
        """Take the gradients that are there into the moving averages."""
        for layer_name, layer in self.layers.items():
            for name, now in sensitivities(layer).items():
                key = f"{layer_name}.{name}"
                mean = BETA1 * self.mean.get(key, torch.zeros_like(now)) + (1 - BETA1) * now
                old = self.spread.get(key, torch.zeros_like(now))
                self.mean[key] = mean
                self.spread[key] = BETA2 * old + (1 - BETA2) * (now - mean).abs()

    def scores(self) -> dict[str, Tensor]:
        """Return each rank's score by layer, float64; zeros before the first update."""
        found = {}
        for layer_name, layer in self.layers.items():
            row = torch.zeros(layer.r, dtype=torch.float64)
            for name in (*layer.RANK_AXIS, "gate"):
                key = f"{layer_name}.{name}"
                if key in self.mean and layer.r:
                    s = (self.mean[key] * self.spread[key]).double().cpu()
                    row += s.reshape(layer.r, -1).mean(dim=1)
            found[layer_name] = row
        return found

    def resized(self, keep: Mapping[str, Sequence[int]], added: Mapping[str, int]) -> None:
        """Follow a resize: the ranks that stay keep their averages, new ones start at zero."""
        for kept_by_key in (self.mean, self.spread):
            for key, value in kept_by_key.items():
                name = key.rpartition(".")[0]
                kept = value[torch.tensor(keep[name], dtype=torch.long, device=value.device)]
                new = value.new_zeros(added[name], *value.shape[1:])
                kept_by_key[key] = torch.cat((kept, new))

    def state(self) -> dict[str, Tensor]:
        """Return the averages as flat tensors by name."""
        return {
            **{f"mean.{key}": value for key, value in self.mean.items()},
            **{f"spread.{key}": value for key, value in self.spread.items()},
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave."""
        for key, value in tensors.items():
            which, _, name = key.partition(".")
            if which in ("mean", "spread"):
                device = next(iter(self.layers.values())).lora_A.device
                getattr(self, which)[name] = value.to(device)
