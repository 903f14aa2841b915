"""Memory of a training step by part, in bytes.

    total = weights + adapters + gradients + optimizer state + activations

Weights and trained tensors are counted from the model on the meta device; activations are what a
rehearsed forward and backward pass allocates beyond its gradients at the worst instant; the
optimizer's own temporaries, of the size of the trained tensors, come when those are gone.  At equal
settings the sum agrees with torch's own account of a step on a CPU to 1 % (tests/planning); a GPU's
kernels take workspaces and its allocator rounds up, for which `usable_bytes` leaves room.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from allora_lab.checks import require_at_least, require_known
from allora_lab.planning.rehearsal import Rehearsal, rehearse
from allora_lab.planning.shapes import build_on_meta

GIB = 2**30
CUDA_CONTEXT_GIB = 1.0  # the driver's context and the libraries' workspaces, roughly
ALLOCATOR_SHARE = 0.05  # what PyTorch's allocator holds beyond what is in use, roughly
WHOLE_DEPTH = 8  # a deeper model is rehearsed at 2 and 3 layers, and the rest follows in proportion


def _adafactor(shape: tuple[int, ...]) -> int:
    if len(shape) < 2:
        return sum(shape)
    rest = 1
    for size in shape[:-2]:
        rest *= size
    return rest * (shape[-2] + shape[-1])


# numbers of 4 bytes that an optimizer keeps for a trained tensor of a shape
STATE: dict[str, Callable[[nn.Parameter], int]] = {
    "sgd": lambda p: p.numel(),  # momentum
    "adamw": lambda p: 2 * p.numel() + 1,  # two moments, and the step
    "adafactor": lambda p: _adafactor(tuple(p.shape)),  # a row and a column; a vector whole
}


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """Bytes of each part of a training step; the parts add up to `total`."""

    weights: int
    adapters: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Return the most bytes in use at once."""
        return self.weights + self.adapters + self.gradients + self.optimizer + self.activations


def optimizer_bytes(model: nn.Module, optimizer: str) -> int:
    """Return the bytes of an optimizer's state; ValueError for an unknown one."""
    require_known("optimizer", optimizer, STATE)
    return sum(4 * STATE[optimizer](p) for p in model.parameters() if p.requires_grad)


def _bytes(model: nn.Module, is_trained: bool) -> int:
    return sum(p.nbytes for p in model.parameters() if p.requires_grad == is_trained)


def rehearsed(
    config: PreTrainedConfig,
    build: Mapping[str, Any],
    *,
    batch_size: int,
    max_length: int,
    is_checkpointed: bool,
) -> Rehearsal:
    """Return the rehearsal of a model; a deep one's from its first 2 and 3 layers.

    Layers of one kind allocate alike, so each further one adds what the third did.  `build` is what
    `build_on_meta` is given besides the configuration.
    """
    depth = getattr(config, "num_hidden_layers", 0)
    kinds = set(getattr(config, "layer_types", None) or ())
    sizes = {"batch_size": batch_size, "tokens": max_length, "is_checkpointed": is_checkpointed}
    if depth <= WHOLE_DEPTH or len(kinds) > 1 or getattr(config, "is_encoder_decoder", False):
        return rehearse(build_on_meta(config, **build), **sizes)
    two, three = (rehearse(build_on_meta(config, **build, layers=n), **sizes) for n in (2, 3))
    return Rehearsal(
        kept=two.kept + (depth - 2) * (three.kept - two.kept),
        peak=two.peak + (depth - 2) * (three.peak - two.peak),
    )


def step_memory(
    config: PreTrainedConfig,
    *,
    optimizer: str = "adamw",
    batch_size: int = 16,
    max_length: int = 128,
    is_checkpointed: bool = False,
    **build: Any,
) -> StepMemory:
    """Return the memory of one training step of `batch_size` x `max_length` tokens.

    Raises
    ------
    ValueError
        For sizes below 1, more tokens than the model has positions, a model without gradient
        checkpointing, and whatever `build_on_meta` refuses, which gets `build`.
    """
    require_at_least("batch_size", batch_size, 1)
    require_at_least("max_length", max_length, 1)
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and max_length > positions:
        raise ValueError(
            f"max_length must be at most {positions}, the positions this model has, got "
            f"{max_length}"
        )
    model = build_on_meta(config, **build)
    sizes = {"batch_size": batch_size, "max_length": max_length}
    step = rehearsed(config, build, **sizes, is_checkpointed=is_checkpointed)
    gradients = _bytes(model, is_trained=True)
    # the loop drops the last step's gradients only after the forward pass
    worst = max(step.peak, step.kept + gradients)
    return StepMemory(
        weights=_bytes(model, is_trained=False),
        adapters=gradients,
        gradients=gradients,
        optimizer=optimizer_bytes(model, optimizer),
        activations=worst - gradients,
    )


def usable_bytes(memory_gib: float) -> int:
    """Return what a GPU of so many GiB has for tensors: less 1 GiB, and less 5 % of the rest."""
    return int(max(0.0, memory_gib - CUDA_CONTEXT_GIB) * (1 - ALLOCATOR_SHARE) * GIB)
