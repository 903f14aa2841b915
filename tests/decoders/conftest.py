import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

WORDS = [
    "<unk>",
    "<s>",
    "</s>",
    "<pad>",
    *["one", "two", "three", "four", "yes", "no", "maybe", "is", "the", "answer"],
]
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
MORE = {"intermediate_size": 36, "vocab_size": len(WORDS), "bos_token_id": 1, "eos_token_id": 2}


def tiny_gpt2():
    sizes = {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 128, "bos_token_id": 1}
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(WORDS), eos_token_id=2, **sizes, **none))


DECODERS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, **MORE, num_key_value_heads=1)),
    "qwen2": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SIZES, **MORE, num_key_value_heads=1, tie_word_embeddings=True)
    ),
    "gpt2": tiny_gpt2,
}
TARGETS = {
    "llama": ("q_proj", "v_proj", "up_proj"),
    "qwen2": ("q_proj", "v_proj", "up_proj"),
    "gpt2": ("c_attn", "c_fc"),
}


@pytest.fixture(params=DECODERS)
def family(request):
    return request.param


@pytest.fixture
def decoder(family):
    """Give a random decoder of a family, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(5)
        return DECODERS[family]().eval()


@pytest.fixture
def tokenizer():
    """Give a tokenizer of words that begins each text with <s>, as Llama's does."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
