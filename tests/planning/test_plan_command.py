"""The plan as a user asks for it."""

import json
import re

import pytest
from transformers import LlamaConfig

from allora_lab.cli import main
from allora_lab.planning.advice import smallest_change
from allora_lab.planning.memory import step_memory, usable_bytes
from allora_lab.planning.shapes import SHAPES, read_shape

SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL = {**SIZES, "vocab_size": 200, "intermediate_size": 160, "max_position_embeddings": 128}
BASE = {
    "method": "allora",
    "task": "sequence-classification",
    "dtype": "float32",
    "r": 4,
    "target_modules": "all-linear",
    "optimizer": "adamw",
    "batch_size": 8,
    "max_length": 64,
    "is_checkpointed": False,
}


@pytest.fixture
def folder(tmp_path):
    LlamaConfig(**SMALL).save_pretrained(tmp_path / "small")
    return tmp_path / "small"


def test_a_folder_with_a_configuration_alone_is_enough(folder, capsys):
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert main(["plan", str(folder), "--r", "4", "--gpu", "t4"]) == 0
    text = capsys.readouterr().out
    layer = 4 * (2 * (64 + 64) + 2 * (64 + 64) + 3 * (64 + 160))
    assert f"trained: {2 * layer + 2 * 64:,} of" in text
    assert "it fits" in text
    assert "at most" in text


def test_seventy_billion_parameters_have_an_answer(capsys):
    words = ["--task", "causal-lm", "--dtype", "bfloat16", "--gpu", "h100", "--batch-size", "1"]
    assert main(["plan", "llama-70b", *words]) == 0
    text = capsys.readouterr().out
    weights = float(re.search(r"pretrained weights +([\d.]+) GiB", text)[1])
    assert weights == pytest.approx(68_976_648_192 * 2 / 2**30, abs=0.001)
    assert "it does not fit" in text
    assert "no one GPU" in text or "h200" in text


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [  # as the models' cards count them, without a head
        ("llama-7b", 6_738_415_616),
        ("llama-13b", 13_015_864_320),
        ("smollm-135m", 134_515_008),
        ("qwen2-0.5b", 494_032_768),
    ],
)
def test_shapes_have_the_public_models_parameters(shape, parameters):
    memory = step_memory(
        SHAPES[shape](),
        method="lora",
        task="causal-lm",
        target_modules="all-linear",
        batch_size=1,
        max_length=8,
    )
    assert memory.weights == 4 * parameters


def total(config, **change):
    return step_memory(config, **{**BASE, **change}).total


def gib_for(bytes_needed):
    """Return a GPU that has just so many bytes for tensors."""
    gib = 1 + bytes_needed / 0.95 / 2**30 + 1e-9
    assert usable_bytes(gib) >= bytes_needed
    return gib


def test_the_smallest_change_that_fits_is_named(folder):
    config, _ = read_shape(str(folder))
    both = {"is_checkpointed": True, "dtype": "bfloat16"}
    sizes = [
        (total(config, is_checkpointed=True), "with --gradient-checkpointing ("),
        (total(config, **both), "with --gradient-checkpointing --dtype bfloat16 ("),
        (total(config, **both, batch_size=2), "--dtype bfloat16 --batch-size 2 ("),
        (total(config, **both, batch_size=1, max_length=32), "--batch-size 1 --max-length 32 ("),
    ]
    assert sizes == sorted(sizes, reverse=True)
    for size, words in sizes:
        assert words in smallest_change(config, BASE, memory_gib=gib_for(size))
    assert "no change of batch" in smallest_change(config, BASE, memory_gib=1.0)


def test_a_method_that_moves_ranks_is_not_told_to_use_bfloat16(folder):
    config, _ = read_shape(str(folder))
    settings = {**BASE, "method": "alora-ablation"}
    size = step_memory(config, **{**settings, "is_checkpointed": True, "batch_size": 4}).total
    assert "bfloat16" not in smallest_change(config, settings, memory_gib=gib_for(size))


BAD = {
    "model": (["lama-7b"], "did you mean 'llama-7b'"),
    "gpu": (["minilm", "--gpu", "h10"], "unknown gpu 'h10': did you mean 'h100'"),
    "memory": (["minilm", "--memory", "-3"], "memory must be a finite number above 0"),
    "peak": (["minilm", "--peak", "nan"], "peak must be a finite number above 0"),
    "targets": (["minilm", "--target-modules", "q_proj"], "match no linear layer"),
    "method": (["minilm", "--method", "alora"], "ambiguous"),
    "length": (["minilm", "--max-length", "513"], "max_length must be at most 512"),
    "empty folder": (["empty"], "empty has no config.json"),
    "no model": (["other"], "describes no model that transformers can build"),
    "broken": (["broken"], "is damaged or cut short"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "other", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": "nothing"}))
    (tmp_path / "broken" / "config.json").write_text("{")
    words, message = BAD[case]
    assert main(["plan", *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
