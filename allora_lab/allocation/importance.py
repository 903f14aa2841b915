r"""AB-LoRA's importance scores, one forward pass a mask: the definition, and the reference.

    IS(r) = S(M) - S(M \\ r) + S(M_r)                       (ALoRA, arXiv 2403.16187, §3.3, eq. 6)

M is the network with all its ranks, M \\ r without rank r, M_r with rank r as the only one of the
whole network; S is the negative cross-entropy on one fixed batch of held-out data.  With R ranks
that takes 2R + 1 forward passes; `allocation.replay` gives the same scores for less.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allora_lab.adapters.gated import GatedLinear
from allora_lab.allocation.places import gated_layers

Batch = Mapping[str, Tensor]
IGNORED = -100  # the label of a token that is not learned
Scores = dict[str, Tensor]  # by layer, one value a rank, float64


def negative_cross_entropy(logits: Tensor, labels: Tensor, copies: int = 1) -> Tensor:
    """Return S of each copy of a batch, (copies,), in nats: the mean over its labels.

    Of classes: logits (copies · n, classes), labels (n,).  Of a decoder's answers: logits (copies · n,
    tokens, words), labels (n, tokens), where -100 is left out and token t is predicted at t - 1.
    """
    if labels.dim() == 2:
        taught = (labels[:, 1:] != IGNORED).repeat(copies, 1)
        logits = logits[:, :-1][taught]  # the answers' positions alone: few, of many words
        right = labels[:, 1:].repeat(copies, 1)[taught]
    else:
        right = labels.repeat(copies)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = F.cross_entropy(wide, right, reduction="none")
    return -losses.double().view(copies, -1).mean(dim=1)


def require_scorable(model: nn.Module, batch: Batch) -> None:
    """Raise ValueError for an empty batch, one without labels, or a model in training mode."""
    if "labels" not in batch:
        raise ValueError("the batch that scores the ranks needs labels: give it a 'labels' tensor")
    if not len(batch["labels"]):
        raise ValueError("the batch that scores the ranks is empty: give it at least one example")
    if any(module.training for module in model.modules()):
        raise ValueError(
            "the model is in training mode, so dropout would decide the scores: call model.eval()"
        )


@contextmanager
def masked(layers: Mapping[str, GatedLinear], masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Multiply each layer's gates by a mask (r,) for the length of a `with` block."""
    originals = {name: layer.gates for name, layer in layers.items()}
    for name, layer in layers.items():
        gates, mask = originals[name], masks[name]
        layer.gates = lambda gates=gates, mask=mask: gates() * mask
    try:
        yield
    finally:
        for layer in layers.values():
            del layer.gates


@torch.no_grad()
def plain_scores(model: nn.Module, batch: Batch) -> Scores:
    """Return IS of every rank by layer, from 2R + 1 forward passes of the model.

    `model(**batch)` must give logits as `negative_cross_entropy` takes them; the model must be in evaluation mode.

    Raises
    ------
    ValueError
        For an empty batch, a model in training mode, or one without gated layers.
    """
    require_scorable(model, batch)
    layers = gated_layers(model)
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    ones = {name: layer.lora_A.new_ones(layer.r) for name, layer in layers.items()}
    zeros = {name: torch.zeros_like(one) for name, one in ones.items()}

    def score(masks: Mapping[str, Tensor]) -> Tensor:
        with masked(layers, masks):
            return negative_cross_entropy(model(**inputs).logits, batch["labels"])[0]

    whole = score(ones)
    scores: Scores = {}
    for name, layer in layers.items():
        row = torch.zeros(layer.r, dtype=torch.float64)
        for k in range(layer.r):
            only = F.one_hot(torch.tensor(k), layer.r).to(ones[name])
            row[k] = whole - score({**ones, name: 1 - only}) + score({**zeros, name: only})
        scores[name] = row
    return scores
