"""TRL's SFTTrainer takes the configuration, and a wrapped optimizer; skipped where TRL is not installed."""

import warnings

import peft
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch.optim import AdamW
from transformers import PreTrainedTokenizerFast

from allora_lab.peft import ALLoRACallback, ALLoRALayer, use_allora, wrap_update
from allora_lab.sidecar import Sidecar, read_sidecar
from tests.peft_users.models import base_model, logits, lora_config, peft_model, trainable

warnings.filterwarnings("ignore", module="trl")
trl = pytest.importorskip("trl", reason="TRL is not one of this project's dependencies")
pytestmark = pytest.mark.filterwarnings("ignore")  # TRL's and PEFT's own; ours is asked for by name


def tokenizer():
    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2, **{f"w{i}": i for i in range(3, 12)}}
    plain = Tokenizer(WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=plain, **special)


def sft(model, folder, **settings):
    from datasets import Dataset

    data = Dataset.from_dict({"text": [f"w{i} w{i} w{i} w{i}" for i in range(3, 12)]})
    args = trl.SFTConfig(
        output_dir=str(folder), max_steps=6, learning_rate=0.05, report_to=[], use_cpu=True,
        per_device_train_batch_size=3, bf16=False, optim="adamw_torch", disable_tqdm=True,
        logging_strategy="no", save_strategy="no", gradient_checkpointing=False,
    )  # fmt: skip
    return trl.SFTTrainer(
        model=model, args=args, train_dataset=data, processing_class=tokenizer(),
        callbacks=[ALLoRACallback()], **settings,
    )  # fmt: skip


def require_learned_and_saved(trainer, method, folder):
    """Check that ALLoRA layers trained, and that plain PEFT loads what they compute."""
    model = trainer.model
    assert any(isinstance(m, ALLoRALayer) for m in model.modules())
    assert (logits(model) - logits(base_model("llama"))).abs().max() > 1e-3
    trainer.save_model(str(folder))
    assert read_sidecar(folder) == Sidecar(eta_squared=4.0, method=method)
    loaded = peft.PeftModel.from_pretrained(base_model("llama"), folder)
    assert torch.equal(logits(loaded), logits(model))


def test_the_configuration_is_taken_and_the_optimizer_warned_of(tmp_path):
    trainer = sft(base_model("llama"), tmp_path, peft_config=use_allora(lora_config("llama")))
    with pytest.warns(UserWarning, match="divides a gradient's scale out again"):
        trainer.train()
    require_learned_and_saved(trainer, "allora", tmp_path / "adapter")


def test_a_wrapped_optimizer_is_taken(tmp_path):
    model = peft_model("llama")
    optimizer = wrap_update(AdamW(trainable(model), lr=0.05), model)
    trainer = sft(model, tmp_path, optimizers=(optimizer, None))
    trainer.train()
    require_learned_and_saved(trainer, "allora-update", tmp_path / "adapter")
