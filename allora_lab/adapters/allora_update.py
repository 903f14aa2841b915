r"""allora-update: ALLoRA's coefficient on the optimizer's step.  This project's own, in no paper.

Adam, AdamW and Adafactor divide a slowly varying scale of the gradient out again, so ALLoRA as
published hardly differs from LoRA under them.  Here the layers are plain LoRA with s = 1, and the
step the optimizer takes is rescaled after the fact:

    B_i ← B_i + acc_i ΔB_i        A ← A + mean(acc) ΔA        acc_i = 1 / √(||(BA)_i|| + 1/η²)

with acc taken before the step.  A has no output rows; giving it the mean is our choice.  Decoupled
weight decay is part of the step and is rescaled with it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from allora_lab.adapters.allora import row_coefficients
from allora_lab.adapters.base import AdaptedLinear
from allora_lab.checks import require_eta_squared


@dataclass(frozen=True)
class Factors:
    """The two factors of one update: A (r, d_in) and B (d_out, r)."""

    lora_A: nn.Parameter  # noqa: N815
    lora_B: nn.Parameter  # noqa: N815


class ALLoRAUpdate(Optimizer):
    """An optimizer around another (SGD, AdamW, Adafactor, ...) that rescales its adapter steps.

    It shares the inner optimizer's `param_groups` and `state`, so schedulers and clipping work on
    it unchanged, and its `state_dict` is the inner one plus `eta_squared`.

    Parameters
    ----------
    optimizer
        The inner optimizer; it must hold the adapters' A and B.
    layers
        The factors whose steps are rescaled; other parameters step as usual.
    eta_squared
        η², positive and finite.

    Raises
    ------
    ValueError
        If eta_squared is not positive and finite, or a loaded state was made with another one.
    """

    def __init__(self, optimizer: Optimizer, layers: Iterable[Factors], eta_squared: float) -> None:
        require_eta_squared(eta_squared)
        super().__init__(optimizer.param_groups, optimizer.defaults)
        self.inner = optimizer
        self.layers = list(layers)
        self.eta_squared = eta_squared
        self._share()

    def _share(self) -> None:
        """Point at the inner optimizer's groups and state; loading a state replaces both there."""
        self.param_groups, self.state = self.inner.param_groups, self.inner.state

    def __getstate__(self) -> dict[str, Any]:
        """Return everything; torch's own would leave out what is not every optimizer's."""
        return self.__dict__.copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take everything back: a copy or an unpickled one steps as the original would."""
        self.__dict__.update(state)
        self._share()

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Let the inner optimizer step, then rescale what it did to each A and B."""
        before = [
            (
                layer,
                layer.lora_A.detach().clone(),
                layer.lora_B.detach().clone(),
                row_coefficients(layer.lora_A, layer.lora_B, self.eta_squared),
            )
            for layer in self.layers
        ]
        loss = self.inner.step(closure)
        with torch.no_grad():
            for layer, A, B, acc in before:
                acc = acc.to(A.dtype)
                layer.lora_A.copy_(A + acc.mean() * (layer.lora_A - A))
                layer.lora_B.copy_(B + acc[:, None] * (layer.lora_B - B))
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of every parameter."""
        self.inner.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the inner optimizer's state and eta_squared."""
        return {**self.inner.state_dict(), "eta_squared": self.eta_squared}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the inner optimizer's state; refuse one made with another eta_squared."""
        if state_dict.get("eta_squared") != self.eta_squared:
            raise ValueError(
                f"this state was saved by allora-update with eta_squared "
                f"{state_dict.get('eta_squared')}, not {self.eta_squared}: use the same value"
            )
        self.inner.load_state_dict({k: v for k, v in state_dict.items() if k != "eta_squared"})
        self._share()


def wrap_optimizer(optimizer: Optimizer, model: nn.Module, eta_squared: float) -> ALLoRAUpdate:
    """Return `optimizer` wrapped for every adapted layer of `model`."""
    adapted = (layer for layer in model.modules() if isinstance(layer, AdaptedLinear))
    layers = [Factors(layer.lora_A, layer.lora_B) for layer in adapted]
    return ALLoRAUpdate(optimizer, layers, eta_squared)
