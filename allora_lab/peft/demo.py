"""MiniLM with PEFT's LoRA and with ALLoRA from one start: what each optimizer leaves of the factor η."""

from collections.abc import Callable

import peft
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from transformers import PreTrainedTokenizerBase

from allora_lab.data.text import load_text
from allora_lab.models.load import load_model
from allora_lab.peft.config import use_allora
from allora_lab.peft.optimizer import wrap_update

BATCH = 16


def peft_minilm(eta_squared: float | None) -> tuple[peft.PeftModel, PreTrainedTokenizerBase]:
    """Return MiniLM with PEFT's LoRA (r 8, query and value), or with ALLoRA where η² is given; seed 0."""
    loaded = load_model("minilm", seed=0)
    config = peft.LoraConfig(
        task_type="SEQ_CLS", target_modules=["query", "value"], r=8, lora_alpha=8
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        wanted = config if eta_squared is None else use_allora(config, eta_squared=eta_squared)
        return peft.get_peft_model(loaded.model, wanted), loaded.tokenizer


def mean_row_norm(model: nn.Module) -> float:
    """Return the mean length of the rows of BA over the layers PEFT adapted."""
    layers = [m for m in model.modules() if hasattr(m, "lora_A") and "default" in m.lora_A]
    norms = [(m.lora_B["default"].weight @ m.lora_A["default"].weight).norm(dim=1) for m in layers]
    return torch.cat(norms).mean().item()


def train_steps(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, optimizer: Optimizer, steps: int = 8
) -> None:
    """Train on the first sentences of rotten_tomatoes_rated, 16 a step."""
    data = load_text("rotten_tomatoes_rated").train
    for start in range(0, BATCH * steps, BATCH):
        texts, labels = (part[start : start + BATCH] for part in (data.texts, data.labels))
        words = tokenizer(list(texts), padding=True, return_tensors="pt")
        model(**words, labels=torch.tensor(labels)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def trap_ratios(eta_squared: float = 4.0, steps: int = 8) -> dict[str, float]:
    """Return how many times as long as LoRA's the rows of ALLoRA are, by optimizer."""

    def norm(eta: float | None, build: Callable[[nn.Module], Optimizer]) -> float:
        model, tokenizer = peft_minilm(eta)
        train_steps(model, tokenizer, build(model), steps)
        return mean_row_norm(model)

    def sgd(model: nn.Module) -> Optimizer:
        return SGD(model.parameters(), lr=0.01)

    def adamw(model: nn.Module) -> Optimizer:
        return AdamW(model.parameters(), lr=1e-4)

    return {
        "SGD": norm(eta_squared, sgd) / norm(None, sgd),
        "AdamW": norm(eta_squared, adamw) / norm(None, adamw),
        "AdamW, wrap_update": norm(eta_squared, lambda m: wrap_update(adamw(m), m))
        / norm(None, adamw),
    }
