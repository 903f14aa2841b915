"""Folders of models and of adapters: configurations with anything in them, damaged weights."""

import functools
import json
import shutil
import tempfile
from pathlib import Path

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from allora_lab import inject_adapters
from allora_lab.export import export_peft
from allora_lab.import_peft import load_peft
from allora_lab.models.load import load_model
from allora_lab.models.minilm import minilm_folder

from .outcome import altered, damaged, empty_folder, speaks_or_succeeds

FEW = settings(max_examples=max(10, settings().max_examples // 2))


def tiny():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30_522,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    return BertForSequenceClassification(config)


@functools.cache
def saved(kind):
    """Return a folder with a tiny model, or with an adapter of one; it is removed at exit."""
    folder = Path(tempfile.mkdtemp(prefix="allora-lab-fuzz-"))
    if kind == "model":
        tiny().save_pretrained(folder)
        AutoTokenizer.from_pretrained(minilm_folder()).save_pretrained(folder)
    else:
        export_peft(inject_adapters(tiny(), "lora", r=2), folder)
    return folder


def teardown_module():
    for kind in ("model", "adapter"):
        shutil.rmtree(saved(kind))


def in_a_copy(kind, change, use):
    with empty_folder() as folder:
        shutil.copytree(saved(kind), folder / "copy")
        change(folder / "copy")
        speaks_or_succeeds(lambda: use(folder / "copy"))


def load(folder):
    load_model(str(folder), "sequence-classification")


def adapt(folder):
    load_peft(tiny(), folder)


def configuration(kind):
    name = {"model": "config.json", "adapter": "adapter_config.json"}[kind]
    return json.loads((saved(kind) / name).read_text())


@FEW
@given(config=st.deferred(lambda: altered(configuration("model"))))
@example(config=[])
@example(config=None)
@example(config={"model_type": "bert", "auto_map": 3})
@example(config={"model_type": "bert", "num_hidden_layers": 10**12})
@example(config={"model_type": "bert", "hidden_size": 10**12})
def test_a_models_configuration_is_used_or_refused_in_one_sentence(config):
    words = json.dumps(config)
    in_a_copy("model", lambda folder: (folder / "config.json").write_text(words), load)


@FEW
@given(data=st.data(), name=st.sampled_from(["config.json", "tokenizer.json", "model.safetensors"]))
def test_a_damaged_file_of_a_model_is_refused_in_one_sentence(data, name):
    whole = (saved("model") / name).read_bytes()
    content = data.draw(damaged(whole))
    in_a_copy("model", lambda folder: (folder / name).write_bytes(content), load)


@FEW
@given(config=st.deferred(lambda: altered(configuration("adapter"))))
@example(config=[])
@example(config={"peft_type": "LORA", "r": 2, "lora_alpha": None})
@example(config={"peft_type": "LORA", "r": 2, "lora_alpha": float("nan")})
@example(config={"peft_type": "LORA", "r": 2, "rank_pattern": 3})
@example(config={"peft_type": "LORA", "r": 2, "rank_pattern": {"(q": 2}})
@example(config={"peft_type": "LORA", "r": 2, "rank_pattern": {"(.*)*x$": 2}})
@example(config={"peft_type": "LORA", "r": 2, "lora_dropout": {}})
def test_an_adapters_configuration_is_used_or_refused_in_one_sentence(config):
    words = json.dumps(config)
    in_a_copy("adapter", lambda folder: (folder / "adapter_config.json").write_text(words), adapt)


SHAPES = st.lists(st.integers(0, 8), max_size=3)
TYPES = st.sampled_from([torch.float32, torch.float16, torch.int8, torch.bool, torch.int64])


@FEW
@given(data=st.data(), shape=SHAPES, dtype=TYPES, fill=st.sampled_from([0.0, float("nan"), 1e30]))
@example(data=None, shape=[], dtype=torch.float32, fill=0.0)
@example(data=None, shape=[2, 8], dtype=torch.float32, fill=float("nan"))
def test_a_tensor_of_an_adapter_may_be_anything(data, shape, dtype, fill):
    def change(folder):
        path = folder / "adapter_model.safetensors"
        tensors = load_file(path)
        name = data.draw(st.sampled_from(sorted(tensors))) if data else min(tensors)
        tensors[name] = torch.full(shape, fill).to(dtype)
        save_file(tensors, path)

    in_a_copy("adapter", change, adapt)


@FEW
@given(data=st.data(), name=st.sampled_from(["adapter_config.json", "adapter_model.safetensors"]))
def test_a_damaged_file_of_an_adapter_is_refused_in_one_sentence(data, name):
    content = data.draw(damaged((saved("adapter") / name).read_bytes()))
    in_a_copy("adapter", lambda folder: (folder / name).write_bytes(content), adapt)
