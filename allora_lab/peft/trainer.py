"""The check of the optimizer, at the moment when `Trainer` has made one."""

from typing import Any

from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from allora_lab.peft.optimizer import check_optimizer


class ALLoRACallback(TrainerCallback):
    """Warns at the start of training when the optimizer would divide ALLoRA's coefficient out.

    ``Trainer(..., callbacks=[ALLoRACallback()])``.  To have the coefficient on the step instead, give
    the trainer ``optimizers=(wrap_update(optimizer, model), None)``; it then makes the schedule.
    """

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        optimizer: Optimizer | None = None,
        **kwargs: Any,
    ) -> None:
        """Call `check_optimizer`."""
        if model is not None and optimizer is not None:
            check_optimizer(optimizer, model)
