"""Tiny adapted models and batches that the tests of this folder share."""

from types import SimpleNamespace

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    Qwen2Config,
    Qwen2ForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

from allora_lab import inject_adapters
from allora_lab.allocation.places import gated_layers

VOCABULARY, LABELS, LONGEST = 50, 3, 9
DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "num_labels": LABELS,
}


class Head(nn.Module):
    """Gives `.logits` and `.loss` to a network of examples without tokens."""

    def __init__(self, net, d=8):
        super().__init__()
        self.net, self.classifier = net, nn.Linear(d, LABELS)

    def forward(self, x, labels=None):
        logits = self.classifier(self.net(x))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SimpleNamespace(logits=logits, loss=loss)


def bert():
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            num_labels=LABELS,
        )
    )


def distilbert():
    return DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=VOCABULARY, dim=16, n_layers=2, n_heads=2, hidden_dim=24, num_labels=LABELS
        )
    )


def gpt2():
    return GPT2ForSequenceClassification(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=16,
            n_layer=2,
            n_head=2,
            n_inner=24,
            n_positions=32,
            pad_token_id=0,
            num_labels=LABELS,
            bos_token_id=1,
            eos_token_id=1,
        )
    )


def llama():
    return LlamaForSequenceClassification(LlamaConfig(**DECODER))


def qwen2():
    return Qwen2ForSequenceClassification(Qwen2Config(**DECODER))


def vit():
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            image_size=8,
            patch_size=4,
            num_labels=LABELS,
        )
    )


def mlp():
    return Head(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU()))


MODELS = {
    "bert": bert,
    "distilbert": distilbert,
    "gpt2": gpt2,
    "llama": llama,
    "qwen2": qwen2,
    "vit": vit,
    "mlp": mlp,
}


def text_batch(n=5, seed=0, lengths=None):
    """Return n padded sentences of 4 to LONGEST tokens with labels."""
    generator = torch.Generator().manual_seed(seed)
    if lengths is None:
        lengths = torch.randint(4, LONGEST + 1, (n,), generator=generator)
        lengths[0] = LONGEST
    ids = torch.randint(3, VOCABULARY, (n, int(max(lengths))), generator=generator)
    mask = torch.arange(ids.shape[1])[None] < torch.as_tensor(lengths)[:, None]
    return {
        "input_ids": ids * mask,
        "attention_mask": mask.long(),
        "labels": torch.randint(0, LABELS, (n,), generator=generator),
    }


def batch_for(kind, n=5, seed=0, dtype=torch.float32):
    """Return a batch that a model of this kind reads."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, LABELS, (n,), generator=generator)
    if kind == "mlp":
        return {"x": torch.randn(n, 6, generator=generator).to(dtype), "labels": labels}
    if kind == "vit":
        pixels = torch.randn(n, 3, 8, 8, generator=generator).to(dtype)
        return {"pixel_values": pixels, "labels": labels}
    return text_batch(n, seed)


def adapted(kind, method="alora-ablation", *, r=3, moved=True, dtype=torch.float32, **changes):
    """Return a tiny model in evaluation mode, its factors away from their start unless told not."""
    torch.manual_seed(0)
    model = MODELS[kind]().to(dtype)
    generator = torch.Generator().manual_seed(1)
    changes = {"target_modules": "all-linear", "lora_alpha": 2.0 * r, **changes}
    inject_adapters(model, method, r=r, generator=generator, **changes)
    if moved:
        with torch.no_grad():
            for layer in gated_layers(model).values():
                for name in layer.RANK_AXIS:
                    parameter = getattr(layer, name)
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.add_(0.5 * noise.to(parameter))
    return model.eval()
