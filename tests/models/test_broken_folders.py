"""A model folder that is nonsense is refused in one sentence, before anything hangs or is trained."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from allora_lab.cli import main
from allora_lab.models.load import load_model
from allora_lab.planning.shapes import read_shape


def refused(folder, named):
    """Return the sentence with which a folder is refused; it names the file at fault."""
    with pytest.raises(ValueError, match=re.escape(named)) as caught:
        load_model(str(folder), "causal-lm")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def configured(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


@pytest.mark.parametrize("text", ["[]", "null", "1", '"x"', "", "{", "[" * 100_000, "é"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_file_that_holds_no_json_object_is_named(tiny_folder, name, text):
    folder = tiny_folder("llama")
    (folder / name).write_text(text, encoding="latin-1")
    refused(folder, name)


WRONG = {
    "auto_map": ["evil.C", ["a"], {"AutoConfig": 1}, {"AutoConfig": [1]}],
    "model_type": [[], 3, {}, "no-such-kind"],
    "hidden_size": [-1, 0, "x", 2.5, [], 10**12, True],
    "intermediate_size": [-1, 10**30],
    "num_attention_heads": [0, -3, 10**12],
    "num_hidden_layers": [-1, 0, 1e12, 10**12, 10**30, float("nan"), 5000],
    "vocab_size": [-8, 10**12],
    "max_position_embeddings": [-1, 10**30],
    "num_labels": [-1, 10**12, "x"],
    "hidden_act": ["no-such-function", 3],
    "rms_norm_eps": ["x", None],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in WRONG.items() for v in values])
def test_a_value_of_config_json_that_cannot_be_built_names_the_file(tiny_folder, name, value):
    refused(configured(tiny_folder("llama"), **{name: value}), "config.json")


def test_more_layers_than_the_weights_have_tensors_are_never_built(tiny_folder):
    folder = configured(tiny_folder("llama"), num_hidden_layers=5000)
    tensors = len(load_file(folder / "model.safetensors"))
    assert f"from 1 to {tensors}, got 5000" in refused(folder, "num_hidden_layers")


def test_a_plan_of_a_million_million_layers_is_refused(tiny_folder):
    folder = configured(tiny_folder("llama"), num_hidden_layers=10**12)
    with pytest.raises(ValueError, match="num_hidden_layers"):
        read_shape(str(folder))


@pytest.mark.parametrize("shard", [1, None, "", "/etc/passwd", "../model.safetensors", "a/b"])
def test_an_index_of_weights_names_files_of_its_folder_alone(tiny_folder, shard):
    folder = tiny_folder("llama")
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    refused(folder, index.name)


def test_what_a_library_raises_over_a_tokenizer_is_one_sentence(tiny_folder):
    folder = tiny_folder("llama")
    (folder / "tokenizer.json").write_text('{"added_tokens": []}')
    assert "(Exception: Model missing" in refused(folder, "tokenizer")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool])
def test_weights_cut_to_whole_numbers_are_neither_trained_nor_recorded(
    tiny_folder, tmp_path, dtype, capsys
):
    folder, out = tiny_folder("llama"), tmp_path / "out"
    path = folder / "model.safetensors"
    save_file({n: t.to(dtype) for n, t in load_file(path).items()}, path, {"format": "pt"})
    words = ["--model", str(folder), "--method", "lora", "--target-modules", "q_proj"]
    assert main(["run", *words, "--steps", "1", "--out", str(out)]) == 2
    assert "is stored as" in capsys.readouterr().err
    assert not [*out.glob("*")]


def test_a_buffer_of_whole_numbers_is_no_fault(tiny_folder):
    folder = tiny_folder("bert")
    path = folder / "model.safetensors"
    positions = torch.arange(512).unsqueeze(0)
    save_file({**load_file(path), "embeddings.position_ids": positions}, path, {"format": "pt"})
    load_model(str(folder))


def test_a_quantized_model_is_refused(tiny_folder):
    kind = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    refused(configured(tiny_folder("llama"), quantization_config=kind), "quantized")


def test_weights_without_a_tensor_are_refused(tiny_folder):
    folder = tiny_folder("llama")
    save_file({}, folder / "model.safetensors", {"format": "pt"})
    refused(folder, "no tensor")


def test_a_configuration_of_a_much_larger_model_than_the_weights_fills_no_memory(tiny_folder):
    folder = configured(tiny_folder("llama"), vocab_size=3_000_000)
    assert "describes a model of" in refused(folder, "config.json")
