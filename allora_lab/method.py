"""What one row of the table of methods says."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from allora_lab.adapters.base import AdaptedLinear
from allora_lab.allocation.hook import TrainingHook
from allora_lab.allocation.settings import HookContext


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """The settings an adapter is built from; a method reads some of them.

    `is_eta_squared_given` is False where eta_squared is only the default.
    """

    r: int
    lora_alpha: float
    lora_dropout: float
    eta_squared: float
    is_eta_squared_given: bool = True
    generator: torch.Generator | None


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the table.

    Attributes
    ----------
    key, label, source
        The name in code and files, the name for people, and the paper.
    colour
        Of its curves in every figure, as #RRGGBB.  Okabe and Ito's palette and more; those drawn
        together stay apart for colour-blind readers (`tests/plots/test_colours.py`).
    build
        From a pretrained layer and settings to an adapted layer.
    reads_eta_squared, reads_lora_alpha
        Whether the setting has any effect.
    scales_rate
        Whether η multiplies a learning rate, and not the forward pass.
    lora_dropout
        The probability used where none is asked for.
    is_gradient_natural
        Whether backward gives the gradient of the function that forward computes.
    wrap_optimizer
        For a method that acts on the optimizer's step: (optimizer, model, eta_squared) to a new
        optimizer.  None leaves the optimizer as it is.
    build_hook
        For a method with a part of its own in training: from a context to that part.
    hook_settings
        Which settings of `AllocationSettings` its part reads.
    allocation_ends
        The share of the run at which it stops moving ranks; None: it may move them to the end.
    own_parameters
        Names of trained tensors that the hook steps, and the run's optimizer does not.
    splits_train
        Whether A and B learn from the first half of the training set only.
    """

    key: str
    label: str
    colour: str
    source: str
    build: Callable[[nn.Module, AdapterSettings], AdaptedLinear]
    reads_eta_squared: bool = False
    reads_lora_alpha: bool = False
    scales_rate: bool = False
    lora_dropout: float = 0.0
    is_gradient_natural: bool = True
    wrap_optimizer: Callable[[Optimizer, nn.Module, float | None], Optimizer] | None = None
    build_hook: Callable[[HookContext], TrainingHook] | None = None
    hook_settings: tuple[str, ...] = ()
    allocation_ends: float | None = None
    own_parameters: tuple[str, ...] = ()
    splits_train: bool = False
