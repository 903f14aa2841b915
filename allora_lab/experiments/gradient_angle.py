"""Why Adam cancels ALLoRA's coefficient for A: how far the coefficient turns the gradient of A.

For B, row i of the gradient is multiplied by acc_i, and Adam divides that factor out entry by
entry.  For A it is inside a sum over the output rows: ∇A = (diag(acc) B)ᵀ gᵀ x, so no factor can be
taken out unless the coefficients are nearly equal.  They are near the start, where all are close
to η.  Measured is the angle between ∇A and Bᵀ gᵀ x, the gradient of A without the coefficient.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from allora_lab.adapters.allora import row_coefficients
from allora_lab.adapters.inject import adapted_layers
from allora_lab.build import inject_adapters
from allora_lab.data.text import load_text
from allora_lab.experiments.demo import ETA_SQUARED
from allora_lab.models.load import load_model
from allora_lab.training.optimizers import OPTIMIZERS

STEPS = (1, 8, 32, 96)
BATCH_SIZE, MAX_LENGTH = 4, 16  # short, so that a cell of a notebook takes seconds


def turned_by(scaled: Sequence[Tensor], plain: Sequence[Tensor]) -> float:
    """Return the angle in degrees between two lists of tensors, each taken as one vector."""
    u, v = (torch.cat([t.flatten() for t in tensors]).double() for tensors in (scaled, plain))
    u, v = u / u.norm(), v / v.norm()
    return 2 * torch.rad2deg(torch.atan2((u - v).norm(), (u + v).norm())).item()


def gradient_angles(steps: Sequence[int] = STEPS, seed: int = 0) -> list[dict[str, float]]:
    """Return, after each number of AdamW steps, the coefficients' range and the angle of ∇A.

    MiniLM with ALLoRA (r = 8 on query and value, η² = 4) trains at AdamW's default rate on 4
    sentences per step, cut at 16 tokens.  Each row has `step`, the `lowest` and the `mean`
    coefficient over all rows of all layers, and `degrees`, over the gradients of all A.
    """
    batches, models = _batches(max(steps) + 1), {}
    for method in ("allora", "lora"):
        generator = torch.Generator().manual_seed(seed)
        base = load_model("minilm", seed=seed).model
        models[method] = inject_adapters(base, method, generator=generator).eval()
    model, rows = models["allora"], []
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=OPTIMIZERS["adamw"].default_lr, weight_decay=0.0)
    for done, batch in enumerate(batches):
        scaled = _gradients_of_A(model, batch)
        if done in steps:
            models["lora"].load_state_dict(model.state_dict())
            degrees = turned_by(scaled, _gradients_of_A(models["lora"], batch))
            rows.append({"step": done, **_coefficients(model), "degrees": degrees})
        optimizer.step()
    return rows


def _batches(n: int) -> list[dict[str, Tensor]]:
    tokenizer, train = load_model("minilm").tokenizer, load_text("rotten_tomatoes_rated").train
    found = []
    for start in range(0, n * BATCH_SIZE, BATCH_SIZE):
        texts, labels = (part[start : start + BATCH_SIZE] for part in (train.texts, train.labels))
        cut = {"truncation": True, "max_length": MAX_LENGTH, "padding": True}
        words = tokenizer(list(texts), return_tensors="pt", **cut)
        found.append({**words, "labels": torch.tensor(labels)})
    return found


def _gradients_of_A(model: nn.Module, batch: dict[str, Tensor]) -> list[Tensor]:
    model.zero_grad()
    model(**batch).loss.backward()
    return [layer.lora_A.grad for layer in adapted_layers(model).values()]


def _coefficients(model: nn.Module) -> dict[str, float]:
    layers = adapted_layers(model).values()
    every = torch.cat([row_coefficients(x.lora_A, x.lora_B, ETA_SQUARED) for x in layers])
    return {"lowest": every.min().item(), "mean": every.mean().item()}
