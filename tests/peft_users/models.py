"""Tiny random models of three families, and pairs of one adapted by PEFT and one by this package."""

import copy

import peft
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from allora_lab import inject_adapters
from allora_lab.adapters.inject import adapted_layers
from allora_lab.peft import use_allora

R = 4
WORDS = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])


def bert():
    sizes = {"hidden_size": 24, "intermediate_size": 36, "num_attention_heads": 3}
    config = BertConfig(vocab_size=12, num_hidden_layers=2, num_labels=3, pad_token_id=0, **sizes)
    config.initializer_range = 0.2  # so that so small a model's gradients are not
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    return BertForSequenceClassification(config)


def llama():
    sizes = {"hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 2}
    config = LlamaConfig(**sizes, num_attention_heads=3, vocab_size=12, pad_token_id=0)
    return LlamaForCausalLM(config)


def gpt2():
    sizes = {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 8, "vocab_size": 12}
    sizes |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=1))


FAMILIES = {
    "bert": (bert, ["query", "value", "output.dense"], "SEQ_CLS"),
    "llama": (llama, ["q_proj", "v_proj", "down_proj"], "CAUSAL_LM"),
    "gpt2": (gpt2, ["c_attn", "c_fc"], "CAUSAL_LM"),
}


def base_model(family):
    torch.manual_seed(0)
    return FAMILIES[family][0]()


def lora_config(family, **settings):
    _, targets, task = FAMILIES[family]
    settings = {"r": R, "lora_alpha": settings.get("r", R), **settings}
    settings |= {"fan_in_fan_out": True} if family == "gpt2" else {}
    return peft.LoraConfig(target_modules=targets, task_type=task, **settings)


def peft_model(family, *, base=None, eta_squared=4.0, **settings):
    config = use_allora(lora_config(family, **settings), eta_squared=eta_squared)
    torch.manual_seed(1)
    return peft.get_peft_model(base or base_model(family), config)


def fill(model, seed=2):
    """Move every B of a PEFT model away from zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                start = 0.3 * torch.randn(parameter.shape, generator=generator)
                parameter.copy_(start)
    return model


def twins(family, method="allora", **settings):
    """Return a PEFT model of `use_allora`, and our own with the same factors and head."""
    theirs = fill(peft_model(family, **settings))
    ours = base_model(family)
    eta_squared = settings.get("eta_squared", 4.0)
    targets = FAMILIES[family][1]
    dropout = settings.get("lora_dropout", 0.0)
    inject_adapters(
        ours, method, r=R, eta_squared=eta_squared, target_modules=targets, lora_dropout=dropout
    )
    with torch.no_grad():
        for mine, other in pairs(ours, theirs):
            mine.copy_(other)
    return theirs, ours


def pairs(ours, theirs, adapter="default"):
    """Yield our trained tensors with PEFT's of the same name."""
    inner = theirs.base_model.model
    for name, layer in adapted_layers(ours).items():
        other = inner.get_submodule(name)
        yield layer.lora_A, other.lora_A[adapter].weight
        yield layer.lora_B, other.lora_B[adapter].weight
    if hasattr(ours, "classifier"):
        yield from zip(
            ours.classifier.parameters(),
            inner.classifier.modules_to_save[adapter].parameters(),
            strict=True,
        )


def loss_of(model, words=WORDS):
    """Return the loss of a classifier or of a language model on the words."""
    inner = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    labels = words[:, 0] % 3 if hasattr(inner, "classifier") else words
    return model(input_ids=words, labels=labels).loss


def trainable(model):
    return [p for p in model.parameters() if p.requires_grad]


def steps(model, optimizer, count=3, losses=1):
    """Take optimizer steps, each on the gradients of `losses` batches added up."""
    for step in range(count):
        optimizer.zero_grad()
        for part in range(losses):
            generator = torch.Generator().manual_seed(10 * step + part)
            loss_of(model, torch.randint(3, 12, (2, 4), generator=generator)).backward()
        optimizer.step()


@torch.no_grad()
def logits(model, words=WORDS):
    was = model.training
    values = model.eval()(input_ids=words).logits
    model.train(was)
    return values


def fresh(model):
    """Return a copy of a pretrained model with another head, as who loads an adapter has it."""
    twin = copy.deepcopy(model)
    for name in ("classifier", "score"):
        if hasattr(twin, name):
            nn.init.normal_(getattr(twin, name).weight)
    return twin
