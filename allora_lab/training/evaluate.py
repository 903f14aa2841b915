"""Accuracy and loss of a classifier over a split."""

import torch
from torch import nn
from transformers import PreTrainedModel

from allora_lab.data.batches import EncodedSplit, collate


@torch.inference_mode()
def evaluate(model: PreTrainedModel, split: EncodedSplit, batch_size: int = 64) -> dict[str, float]:
    """Return `accuracy` (share right, 0 to 1) and `loss` (mean cross-entropy, in nats).

    Sentences of like length share a batch; the model is left in the mode it was in.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    rows = sorted(range(len(split)), key=split.lengths.__getitem__)
    right, loss = 0, 0.0
    for start in range(0, len(rows), batch_size):
        batch = {
            k: v.to(device) for k, v in collate(split, rows[start : start + batch_size]).items()
        }
        labels = batch.pop("labels")
        logits = model(**batch).logits.float()
        right += (logits.argmax(dim=-1) == labels).sum().item()
        loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
    model.train(was_training)
    return {"accuracy": right / len(rows), "loss": loss / len(rows)}
