"""What a method may do beside the optimizer's step: the places in the training loop it is asked at."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class TrainingHook:
    """A method's own part in training; this one does nothing, and a method overrides what it needs.

    The loop asks, in every step and in this order, for `penalty`, `after_backward` and `after_step`;
    a checkpoint keeps what `state` gives.
    """

    def penalty(self) -> Tensor | None:
        """Return what is added to the loss that is differentiated, but not to the one recorded."""
        return None

    def after_backward(self) -> None:
        """See the gradients, before they are clipped and used."""

    def after_step(self, done: int) -> Mapping[str, Any] | None:
        """Act after `done` optimizer steps; what is returned is appended to the trace."""

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return what a resumed run needs: values fit for JSON, and tensors by name."""
        return {}, {}

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave, before weights and optimizer state are loaded."""
