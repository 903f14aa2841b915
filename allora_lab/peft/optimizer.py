r"""The optimizer trap, told and avoided: whether a step sees the gradients' scale, and the other form.

ALLoRA rescales gradients, and an optimizer whose step does not change when every gradient is
multiplied by a constant divides the coefficient out again.  `check_optimizer` says so;
`wrap_update` puts the coefficient on the step instead (`adapters.allora_update`).
"""

import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import nn
from torch.optim import Optimizer

from allora_lab.adapters.allora_update import ALLoRAUpdate, is_wrapped
from allora_lab.adapters.update_layer import Factors
from allora_lab.peft.config import ALLoRAConfig
from allora_lab.peft.layer import ALLoRALayer

FACTOR = 4.0  # what the gradients are multiplied by; SGD's step grows as much, Adam's not at all
WRAP = "wrap it: optimizer = wrap_update(optimizer, model)"


def _step_length(optimizer: Optimizer, scale: float) -> float:
    """Return how far a fresh optimizer of the same kind and settings moves one 4 x 4 parameter."""
    first = optimizer.param_groups[0]
    parameter = nn.Parameter(torch.ones(4, 4, device=first["params"][0].device))
    gradient = torch.linspace(-1, 1, 16, device=parameter.device).view(4, 4)
    parameter.grad = scale * gradient
    group = {**first, "params": [parameter]}
    group |= {k: v for k, v in {"weight_decay": 0.0, "capturable": False}.items() if k in group}
    if group.get("lr") is not None:
        group["lr"] = 1e-3  # a warm-up may start at 0
    twin = object.__new__(type(optimizer))
    own = {k: v for k, v in vars(optimizer).items() if k != "step"}  # a scheduler patches step
    hooks = {k: OrderedDict() for k in own if k.startswith("_optimizer_step_")}
    vars(twin).update({**own, **hooks, "state": defaultdict(dict), "param_groups": [group]})
    twin.step()
    return (parameter.detach() - 1).norm().item()


def is_scale_free(optimizer: Optimizer) -> bool:
    """Return whether an optimizer's step hardly changes when every gradient is multiplied by 4.

    This is measured on a parameter of its own, from one first step at the optimizer's settings, not
    looked up; the optimizer and its state are left as they were.  False for an optimizer that cannot
    step without a closure.
    """
    try:
        short, long = (_step_length(optimizer, scale) for scale in (1.0, FACTOR))
    except TypeError:  # LBFGS: step() needs a closure
        return False
    return long < FACTOR**0.5 * short


def _adapters(model: nn.Module) -> Iterator[Factors]:
    """Yield every ALLoRA adapter of every layer; its source is its configuration."""
    for name, layer in model.named_modules():
        if isinstance(layer, ALLoRALayer):
            for key, config in layer.allora_config.items():
                A, B = layer.lora_A[key].weight, layer.lora_B[key].weight
                is_scaled = config.method == "allora"
                yield Factors(f"{key} of {name}", A, B, config.eta_squared, is_scaled, config)


class PeftUpdate(ALLoRAUpdate):
    """`ALLoRAUpdate` around the optimizer of a model with adapters of `use_allora`."""

    NONE_HELD: ClassVar[str] = (
        "the optimizer holds no adapter of use_allora: build the model with "
        "peft.get_peft_model(model, use_allora(config)) first, and the optimizer from its trainable "
        "parameters"
    )

    def found(self) -> Iterator[Factors]:
        """Yield every ALLoRA adapter of every layer."""
        return _adapters(self.model)

    def adopt(self, source: ALLoRAConfig) -> None:
        """Have an adapter leave its gradients alone, and `allora.json` say so."""
        source.method = "allora-update"


def check_optimizer(optimizer: Optimizer, model: nn.Module) -> None:
    """Warn, with a UserWarning, when ALLoRA would train as LoRA does under this optimizer.

    That is when the optimizer is scale-free (Adam, AdamW, Adafactor, Lion, ...: see `is_scale_free`)
    and not wrapped, or when an adapter is "allora-update" and the optimizer is not wrapped.  Call it
    before training; with `Trainer`, `ALLoRACallback` does.
    """
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer  # accelerate's wrapper
    if is_wrapped(optimizer):
        return
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    stepped = [f for f in _adapters(model) if id(f.lora_A) in held and id(f.lora_B) in held]
    methods = {f.source.method for f in stepped}
    kind = type(optimizer).__name__
    if "allora-update" in methods:
        warnings.warn(
            f"ALLoRA is to act on the optimizer's step, but {kind} is not wrapped, so this trains "
            f"plain LoRA: {WRAP}",
            UserWarning,
            stacklevel=2,
        )
    elif "allora" in methods and is_scale_free(optimizer):
        warnings.warn(
            f"ALLoRA rescales gradients, and {kind} divides a gradient's scale out again, so this "
            f"trains nearly as plain LoRA does: use SGD, or {WRAP}",
            UserWarning,
            stacklevel=2,
        )


def wrap_update(optimizer: Optimizer, model: nn.Module) -> ALLoRAUpdate:
    """Return `optimizer` wrapped so that ALLoRA's coefficient acts on its steps: `allora-update`.

    From then on the gradients are plain LoRA's, so that the coefficient counts once; η² is that of
    `use_allora`, and `allora.json` will say "allora-update".  Works around SGD, AdamW, Adafactor and
    others, with schedulers and clipping, and in `Trainer` as ``optimizers=(wrapped, None)``.  Wrap
    the bare optimizer, before accelerate's `prepare`.

    Raises
    ------
    ValueError
        If the optimizer is wrapped already, needs a closure, holds no adapter of `use_allora`, or holds
        several with different eta_squared.  A step raises it when an adapter has gradients and no
        wrapped optimizer holds it, such as one that was added later; `add_param_group` takes it in.
    """
    return PeftUpdate(optimizer, model)
