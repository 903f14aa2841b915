r"""allora-update: ALLoRA's coefficient on the optimizer's step.  This project's own, in no paper.

Adam, AdamW and Adafactor divide a slowly varying scale of the gradient out again, so ALLoRA as
published hardly differs from LoRA under them.  Here the layers are plain LoRA with s = 1, and the
step the optimizer takes is rescaled after the fact:

    B_i ← B_i + acc_i ΔB_i        A ← A + mean(acc) ΔA        acc_i = 1 / √(||(BA)_i|| + 1/η²)

with acc taken before the step.  A has no output rows; giving it the mean is our choice.  A factor
that several layers share is rescaled once, by the mean of their coefficients.  Decoupled weight decay
is part of the step and is rescaled with it.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from allora_lab.adapters.allora import row_coefficients
from allora_lab.adapters.base import AdaptedLinear, AdaptiveLinear
from allora_lab.adapters.update_layer import ALLoRAUpdateLinear, Factors, mark_as_rescaled
from allora_lab.checks import require_eta_squared

MARK = "steps rescaled by ALLoRA: load this state into a wrapped optimizer"


def is_wrapped(optimizer: Optimizer) -> bool:
    """Return whether ALLoRA rescales an optimizer's steps, also inside accelerate's wrapper."""
    while not isinstance(optimizer, ALLoRAUpdate) and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return isinstance(optimizer, ALLoRAUpdate)


def _require_wrappable(optimizer: Optimizer) -> None:
    if is_wrapped(optimizer):
        raise ValueError("this optimizer is wrapped already: use it as it is")
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(
            f"{type(optimizer).__name__} searches along its step by itself (its step needs a "
            "closure), so rescaled steps do not descend: use SGD, AdamW or Adafactor"
        )


class ALLoRAUpdate(Optimizer):
    """An optimizer around another (SGD, AdamW, Adafactor, ...) that rescales its adapter steps.

    It shares the inner optimizer's `param_groups` and `state`, so schedulers and clipping work on
    it unchanged.  A and B are looked up in the model at every step: ranks that come and go and
    adapters added by `add_param_group` are followed.  Its `state_dict` is the inner one plus
    `eta_squared`, and an empty parameter group, which makes a plain optimizer refuse it.

    Parameters
    ----------
    optimizer
        The inner optimizer; it must hold the adapters' A and B.
    model
        The adapted model; what the optimizer holds besides its adapters steps as usual.
    eta_squared
        η², above 0 and at most 1e6; None takes the value that the adapters were made with.

    Raises
    ------
    ValueError
        If the optimizer is wrapped already, needs a closure, or holds no adapter of the model; if an
        adapter's gradients carry the coefficient already; or if eta_squared is out of range, unknown,
        or another than the adapters were made with.  A step raises it when an adapter has gradients
        and no wrapped optimizer holds it.
    """

    NONE_HELD: ClassVar[str] = (
        "the optimizer holds no adapter of this model: call inject_adapters first, and build the "
        "optimizer from the parameters that require gradients (for PEFT's models there is "
        "allora_lab.peft.wrap_update)"
    )

    def __init__(
        self, optimizer: Optimizer, model: nn.Module, eta_squared: float | None = None
    ) -> None:
        if eta_squared is not None:
            require_eta_squared(eta_squared)
        _require_wrappable(optimizer)
        super().__init__(optimizer.param_groups, optimizer.defaults)
        self.inner, self.model = optimizer, model
        self._share()
        if not self.layers:
            raise ValueError(self.NONE_HELD)
        self.eta_squared = self._require_one_eta_squared(eta_squared)
        self._take_over()

    def found(self) -> Iterator[Factors]:
        """Yield the factors of every adapted layer of the model."""
        for name, layer in self.model.named_modules():
            if isinstance(layer, AdaptedLinear):
                is_ours = isinstance(layer, ALLoRAUpdateLinear)
                asked = layer.eta_squared if is_ours and layer.is_eta_squared_given else None
                is_scaled = isinstance(layer, AdaptiveLinear)
                yield Factors(name, layer.lora_A, layer.lora_B, asked, is_scaled, layer)

    def adopt(self, source: Any) -> None:
        """Note at an adapter by which η² this optimizer rescales its steps, for its export."""
        if isinstance(source, ALLoRAUpdateLinear):
            source.eta_squared = self.eta_squared

    @property
    def layers(self) -> list[Factors]:
        """The factors that are rescaled: those of which the optimizer holds at least one."""
        held = self._held()
        return [f for f in self.found() if id(f.lora_A) in held or id(f.lora_B) in held]

    def _held(self) -> set[int]:
        return {id(p) for group in self.inner.param_groups for p in group["params"]}

    def _require_one_eta_squared(self, given: float | None) -> float:
        """Return η²: the one given, or the one that all adapters were made with."""
        asked = {f.eta_squared for f in self.layers if f.eta_squared is not None}
        if given is None and not asked:  # the default of inject_adapters, where it made such layers
            asked = {f.source.eta_squared for f in self.layers if hasattr(f.source, "eta_squared")}
        values = sorted(asked | ({given} if given is not None else set()))
        if not values:
            raise ValueError("eta_squared is unknown: give it to wrap_optimizer, such as 4.0")
        if len(values) > 1 and given in (None, *asked):
            raise ValueError(
                f"the optimizer holds adapters with eta_squared {values}: give each its own optimizer"
            )
        if len(values) > 1:
            raise ValueError(
                f"the adapters were made with eta_squared {min(asked)}, not {given}: use one value"
            )
        return values[0]

    def _take_over(self) -> None:
        """Mark the adapters that the optimizer holds as rescaled."""
        for factors in self.layers:
            self.adopt(factors.source)
        for factors in self.layers:  # read anew: some methods change with it
            if factors.is_scaled:
                raise ValueError(
                    f"the gradients of {factors.name} carry ALLoRA's coefficient already, so it "
                    "would count twice: use the optimizer unwrapped, or method 'allora-update'"
                )
            mark_as_rescaled(factors.lora_A, factors.lora_B)

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

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters to the inner optimizer; adapters among them are rescaled as the others are.

        Raises ValueError, with nothing added, where the constructor would refuse them.
        """
        if "inner" not in self.__dict__:  # torch's constructor adds the first groups
            super().add_param_group(param_group)
            return
        self.inner.add_param_group(param_group)
        try:
            self._require_one_eta_squared(self.eta_squared)
            self._take_over()
        except ValueError:
            self.inner.param_groups.pop()
            raise

    def _require_every_trained_held(self, held: set[int]) -> None:
        for f in self.found():
            for factor in (f.lora_A, f.lora_B):
                is_ours = id(factor) in held or getattr(factor, "is_rescaled", False)
                if factor.grad is not None and not is_ours:
                    raise ValueError(
                        f"the adapter {f.name} has gradients, but the wrapped optimizer does not hold "
                        "it: add it with optimizer.add_param_group, or set its requires_grad to False"
                    )

    def _coefficients(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Return each factor that is held, once, with what multiplies its step."""
        held = self._held()
        self._require_every_trained_held(held)
        found: dict[int, tuple[nn.Parameter, list[Tensor]]] = {}
        for f in self.layers:
            if f.is_scaled:
                raise ValueError(
                    f"the gradients of {f.name} carry ALLoRA's coefficient already: add it with "
                    "add_param_group of the wrapped optimizer, not of the inner one"
                )
            mark_as_rescaled(f.lora_A, f.lora_B)
            acc = row_coefficients(f.lora_A, f.lora_B, self.eta_squared).to(f.lora_A.dtype)
            for factor, scale in ((f.lora_A, acc.mean()), (f.lora_B, acc[:, None])):
                if id(factor) in held:
                    found.setdefault(id(factor), (factor, []))[1].append(scale)
        return [
            (factor, scales[0] if len(scales) == 1 else torch.stack(scales).mean(0))
            for factor, scales in found.values()
        ]

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Let the inner optimizer step, then rescale what it did to each A and B."""
        before = [
            (factor, scale, factor.detach().clone()) for factor, scale in self._coefficients()
        ]
        loss = self.inner.step(closure)
        with torch.no_grad():
            for factor, scale, start in before:
                factor.copy_(start + scale * (factor - start))
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of every parameter."""
        self.inner.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the inner optimizer's state, eta_squared, and the group that marks it."""
        state = self.inner.state_dict()
        groups = [*state["param_groups"], {"params": [], MARK: True}]
        return {**state, "param_groups": groups, "eta_squared": self.eta_squared}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the inner optimizer's state; refuse a plain one's, or one of another eta_squared."""
        if "eta_squared" not in state_dict:
            raise ValueError(
                "this state was saved by a plain optimizer, and this one is wrapped by ALLoRA: load it "
                "into an optimizer that is not wrapped, or start the training anew"
            )
        if state_dict["eta_squared"] != self.eta_squared:
            raise ValueError(
                f"this state was saved with eta_squared {state_dict['eta_squared']}, not "
                f"{self.eta_squared}: use the same value"
            )
        inner = {k: v for k, v in state_dict.items() if k != "eta_squared"}
        inner["param_groups"] = [g for g in inner["param_groups"] if MARK not in g]
        self.inner.load_state_dict(inner)
        self._share()


def wrap_optimizer(
    optimizer: Optimizer, model: nn.Module, eta_squared: float | None = None
) -> ALLoRAUpdate:
    """Return `optimizer` wrapped for `model`; parameters and errors are those of `ALLoRAUpdate`."""
    return ALLoRAUpdate(optimizer, model, eta_squared)
