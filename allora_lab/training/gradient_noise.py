"""How far dropout's masks move the gradient of the adapters, beside how far the batches do."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from allora_lab.adapters.inject import adapted_layers
from allora_lab.training.trace import rounded

Batch = Mapping[str, Tensor]


def spread_of(gradients: Sequence[Tensor]) -> dict[str, float]:
    """Return `signal` ||ḡ||, `noise` √(Σ_k ||g_k - ḡ||² / (K - 1)), and `largest_std`, of one entry.

    K gradients of any one shape; noise / signal says how far one draw strays from the mean.
    """
    stacked = torch.stack(list(gradients)).flatten(1)  # (draws, entries)
    variances = stacked.var(dim=0)
    return {
        "signal": rounded(stacked.mean(dim=0).norm().item()),
        "noise": rounded(variances.sum().sqrt().item()),
        "largest_std": rounded(variances.max().sqrt().item()),
    }


def _gradients(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the gradients of every A and of every B, each as one vector; 0 where one is frozen."""
    layers = adapted_layers(model).values()
    factors = [m.lora_A for m in layers] + [m.lora_B for m in layers]
    trained = [factor for factor in factors if factor.requires_grad]
    loss = model(**batch).loss
    found = dict(zip(trained, torch.autograd.grad(loss, trained), strict=True)) if trained else {}
    flat = [found.get(f, torch.zeros_like(f)).float().cpu().flatten() for f in factors]
    return torch.cat(flat[: len(layers)]), torch.cat(flat[len(layers) :])


def _spreads(pairs: Iterable[tuple[Tensor, Tensor]]) -> dict[str, dict[str, float]]:
    of_A, of_B = zip(*pairs, strict=True)
    return {"A": spread_of(of_A), "B": spread_of(of_B)}


def gradient_noise(
    model: PreTrainedModel, batches: Sequence[Batch], *, seed: int
) -> dict[str, Any]:
    """Return the spread of the adapters' gradient, of A and of B, over masks and over batches.

    `over_masks`: the first batch, as many masks as there are batches, drawn from (seed, draw);
    `over_batches`: dropout off, each batch once.  After ALLoRA §3.1 and Figure 1, which measure an
    MLP's weights over masks alone; here the adapters', and beside it the noise that stochastic
    gradients have anyway.  The gradients are those backward gives, ALLoRA's scaled ones included.
    Neither the model, its mode nor its stored gradients change; torch's global generator does.
    """
    was_training = model.training
    device = next(model.parameters()).device
    placed = [{key: value.to(device) for key, value in batch.items()} for batch in batches]

    def masked(draw: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(seed * 1_000_003 + draw)
        return _gradients(model, placed[0])

    model.train()
    over_masks = _spreads(masked(draw) for draw in range(len(placed)))
    model.eval()
    over_batches = _spreads(_gradients(model, batch) for batch in placed)
    model.train(was_training)
    return {"over_masks": over_masks, "over_batches": over_batches}
