"""The ripple effect in a real model: a fine-tuned MiniLM whose adapters are scaled afterwards.

LoRA is trained as in the escape experiment (AdamW, r = 8 on query and value, s = 1).  Then every
adapter is given the same factor s, nothing is trained again, and the hidden states of held-out
sentences are compared with those at s = 0, token by token; padding is left out.

python -m allora_lab.experiments.ripple_model          # record what is missing
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allora_lab.adapters.inject import adapted_layers
from allora_lab.config import RunConfig
from allora_lab.data.batches import EncodedSplit, collate, encode
from allora_lab.data.text import load_text
from allora_lab.experiments import environment
from allora_lab.experiments.ripple_records import (
    QUANTILES,
    SCALINGS,
    SEEDS,
    RippleRecord,
    ripple_config,
    ripple_path,
    write_ripple,
)
from allora_lab.experiments.runner import build_adapted, fine_tune
from allora_lab.theory.ripple_network import growth, relative_change

BATCH = 64


def set_scaling(model: nn.Module, scaling: float) -> None:
    """Give every LoRA adapter of a model the factor s of s · BA, in place."""
    for layer in adapted_layers(model).values():
        layer.scaling = scaling


def batches(split: EncodedSplit) -> Iterator[dict[str, Tensor]]:
    """Give a split in batches of sentences of like length."""
    rows = sorted(range(len(split)), key=split.lengths.__getitem__)
    for start in range(0, len(rows), BATCH):
        yield collate(split, rows[start : start + BATCH])


@dataclass(frozen=True)
class Pass:
    """One pass over a split: hidden states of the words, and logits and labels of the sentences.

    `states` (tokens, depths, d) has the embeddings first, then every layer.
    """

    states: Tensor
    logits: Tensor
    labels: Tensor


@torch.inference_mode()
def forward(model: nn.Module, split: EncodedSplit, scaling: float) -> Pass:
    """Return what a model computes for a split with its adapters at a scaling; no dropout."""
    set_scaling(model.eval(), scaling)
    states, logits, labels = [], [], []
    for batch in batches(split):
        labels.append(batch.pop("labels"))
        output = model(**batch, output_hidden_states=True)
        logits.append(output.logits)
        every_depth = torch.stack(output.hidden_states, dim=2)  # (batch, tokens, depths, d)
        states.append(every_depth[batch["attention_mask"].bool()])
    return Pass(torch.cat(states), torch.cat(logits), torch.cat(labels))


def summary(values: Tensor) -> dict[str, list[Any]]:
    """Return the mean and the quantiles over tokens (dimension 0), to five digits, by depth."""
    quantiles = torch.quantile(values, torch.tensor(QUANTILES, dtype=values.dtype), dim=0).T
    return {
        "mean": [float(f"{v:.5g}") for v in values.mean(dim=0).tolist()],
        "quantiles": [[float(f"{v:.5g}") for v in row] for row in quantiles.tolist()],
    }


def scaled_row(scaling: float, scaled: Pass, plain: Pass) -> dict[str, Any]:
    """Return growth and change of the words' states against s = 0, and accuracy and loss."""
    right = scaled.logits.argmax(dim=-1) == scaled.labels
    return {
        "scaling": scaling,
        "growth": summary(growth(scaled.states, plain.states)),
        "change": summary(relative_change(scaled.states, plain.states)),
        "accuracy": right.double().mean().item(),
        "loss": float(f"{F.cross_entropy(scaled.logits, scaled.labels).item():.5g}"),
    }


@torch.inference_mode()
def adapter_rows(model: nn.Module, split: EncodedSplit) -> dict[str, dict[str, float]]:
    """Return, for each adapted matrix, the norms of W and BA and how much of BA the tokens use."""
    set_scaling(model.eval(), 1.0)
    layers, used = adapted_layers(model), {}
    handles = [
        layer.register_forward_pre_hook(partial(_keep_inputs, used.setdefault(name, [])))
        for name, layer in layers.items()
    ]
    masks = []
    for batch in batches(split):
        masks.append(batch["attention_mask"].bool())
        model(**{k: v for k, v in batch.items() if k != "labels"})
    for handle in handles:
        handle.remove()
    rows = {}
    for name, layer in layers.items():
        z = torch.cat([inputs[mask] for inputs, mask in zip(used[name], masks, strict=True)])
        W, BA = layer.base_layer.weight, layer.lora_B @ layer.lora_A
        rows[name] = {k: float(f"{v.item():.6g}") for k, v in _adapter_row(W, BA, z).items()}
    return rows


def _keep_inputs(kept: list[Tensor], _layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    kept.append(inputs[0])


def _adapter_row(W: Tensor, BA: Tensor, z: Tensor) -> dict[str, Tensor]:
    plain, update = F.linear(z, W), F.linear(z, BA)
    return {
        "weight_norm": torch.linalg.matrix_norm(W, ord=2),
        "adapter_norm": torch.linalg.matrix_norm(BA, ord=2),
        "weight_frobenius": W.norm(),
        "adapter_frobenius": BA.norm(),
        "used_ratio": (update.norm(dim=-1) / plain.norm(dim=-1)).mean(),
        "cosine": F.cosine_similarity(update, plain, dim=-1).mean(),
    }


def measure_ripple(config: RunConfig) -> RippleRecord:
    """Fine-tune as `config` says, scale the adapters by every s of SCALINGS, and return the record.

    The sentences measured are the first `eval_size` of the split that the run reports accuracy on.
    Takes about a minute on one core at the recorded settings.
    """
    start = time.perf_counter()
    commit, dirty = environment.code_version()
    dataset = load_text(config.dataset)
    loaded = build_adapted(config, len(dataset.label_names))
    fine_tune(config, loaded, dataset)
    sentences = (dataset.dev if config.eval_split == "dev" else dataset.test).first(
        config.eval_size
    )
    split = encode(loaded.tokenizer, sentences, config.max_length)
    adapters = adapter_rows(loaded.model, split)
    plain = forward(loaded.model, split, 0.0)
    rows = [scaled_row(s, forward(loaded.model, split, s), plain) for s in SCALINGS]
    return RippleRecord(
        run_id=config.run_id,
        config=config.to_json(),
        adapters=adapters,
        scaled=rows,
        tokens=len(plain.states),
        sentences=len(split),
        seconds=round(time.perf_counter() - start, 1),
        model_revision=loaded.revision,
        dataset_revision=dataset.revision,
        code_commit=commit,
        code_dirty=dirty,
        packages=environment.package_versions(),
        device=environment.device_name(torch.device("cpu")),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def record_all() -> None:
    """Measure every seed of SEEDS that has no record, write `results/ripple/*.json`, and say so."""
    for seed in SEEDS:
        path = ripple_path(ripple_config(seed))
        if path.exists():
            print(f"seed {seed}: recorded")
            continue
        record = measure_ripple(ripple_config(seed))
        write_ripple(record, path)
        print(f"seed {seed}: wrote {path.name} after {record.seconds:.0f} s")


if __name__ == "__main__":
    record_all()
