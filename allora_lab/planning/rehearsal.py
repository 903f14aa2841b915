"""A step rehearsed on the meta device: what would be allocated, tensor by tensor, with no numbers.

Forward and backward run as they would, so whatever an architecture or a method keeps for its
backward pass is counted as autograd keeps it; a dispatch mode follows every storage from its birth
to its end.  What it cannot see: workspaces inside a kernel, the allocator's rounding and unused
blocks, and what a compiler would fuse away.  Attention is the fused kernel's, which keeps its
output and one number a row and never the tokens × tokens matrix.
"""

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AttentionInterface, PreTrainedModel

from allora_lab.models.recompute import keep_layers, recompute_layers

ATTENTION = "allora-lab-rehearsal"


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """Bytes above the model's own: `kept` from forward to backward, `peak` at the worst instant.

    `peak` includes what is kept, and the trained tensors' gradients as far as they exist then.
    """

    kept: int
    peak: int


def _fused_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **_more: Any,
) -> tuple[Tensor, None]:
    """Return attention's output as the fused kernels shape it: query (batch, heads, tokens, size)."""
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    output = kernel(query, key, value, dropout, causal, attn_mask=attention_mask, scale=scaling)[0]
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, _fused_attention)


class StorageCount(TorchDispatchMode):
    """Bytes of the storages that are alive, `now` and at the `peak`, but for those of `given`."""

    def __init__(self, given: list[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.sizes = {tensor.untyped_storage()._cdata: 0 for tensor in given}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and count the storages that are new in what it returns."""
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)


def rehearse(
    model: PreTrainedModel, *, batch_size: int, tokens: int, is_checkpointed: bool = False
) -> Rehearsal:
    """Return what one step's forward and backward allocate; the model is on the meta device.

    `is_checkpointed` turns on the model's gradient checkpointing: each layer keeps its input and
    computes the rest again.  The model has no gradients afterwards.

    Raises
    ------
    ValueError
        When the model has no gradient checkpointing.
    """
    if is_checkpointed:
        recompute_layers(model, preserve_rng_state=False)
    ids = torch.zeros(batch_size, tokens, dtype=torch.long, device="meta")
    has_head = "ForSequenceClassification" in type(model).__name__
    labels = ids[:, 0] if has_head else ids
    try:
        with StorageCount([*model.parameters(), *model.buffers(), ids]) as count:
            loss = model(input_ids=ids, labels=labels).loss
            kept = count.now
            loss.backward()
    finally:
        model.zero_grad(set_to_none=True)
        if is_checkpointed:
            keep_layers(model)
    return Rehearsal(kept=kept, peak=count.peak)
