"""Gradient checkpointing: a layer keeps its input, and computes its inside again when it is needed."""

from typing import Any

from transformers import PreTrainedModel


def recompute_layers(model: PreTrainedModel, **settings: Any) -> PreTrainedModel:
    """Turn gradient checkpointing on, in place, and return the model; no number changes.

    `settings` are `torch.utils.checkpoint.checkpoint`'s; the non-reentrant form is used, which also
    works where the first layer's input needs no gradient.

    Raises
    ------
    ValueError
        When the model has no gradient checkpointing.
    """
    if not model.supports_gradient_checkpointing:
        raise ValueError(
            f"{type(model).__name__} has no gradient checkpointing: leave gradient_checkpointing out"
        )
    model.config.use_cache = False  # of generation; the two exclude each other
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False, **settings})
    return model


def keep_layers(model: PreTrainedModel) -> None:
    """Turn gradient checkpointing off again."""
    getattr(model, "activation_checkpointing_disable", model.gradient_checkpointing_disable)()
