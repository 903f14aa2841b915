from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

WORDS = ["<unk>", "</s>", "<pad>", "the", "film", "was", "good", "bad"]


def tiny_bert(labels: int | None = None) -> BertModel | BertForSequenceClassification:
    sizes = BertConfig(
        vocab_size=8,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=36,
        hidden_dropout_prob=0.5,
        attention_probs_dropout_prob=0.5,
        pad_token_id=2,
    )
    if labels is None:
        return BertModel(sizes)
    sizes.num_labels = labels
    return BertForSequenceClassification(sizes)


def tiny_gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=8,
            n_embd=24,
            n_layer=2,
            n_head=3,
            n_positions=32,
            resid_pdrop=0.5,
            embd_pdrop=0.5,
            attn_pdrop=0.5,
            bos_token_id=1,
            eos_token_id=1,
        )
    )


def tiny_llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=8,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=36,
            attention_dropout=0.5,
        )
    )


TINY = {
    "bert": tiny_bert,
    "bert-3-labels": lambda: tiny_bert(labels=3),
    "gpt2": tiny_gpt2,
    "llama": tiny_llama,
}


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Callable[[str], Path]:
    """Save a random model of a family, a few thousand parameters, with a word tokenizer."""

    def save(family: str) -> Path:
        folder = tmp_path / family
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(11)
            TINY[family]().save_pretrained(folder)
        words = Tokenizer(
            models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>")
        )
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        special = {"pad_token": "<pad>"} if family.startswith("bert") else {}
        PreTrainedTokenizerFast(
            tokenizer_object=words, unk_token="<unk>", eos_token="</s>", **special
        ).save_pretrained(folder)
        return folder

    return save
