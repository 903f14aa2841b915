"""Runs in bfloat16, compiled, checkpointed and deterministic; what records say of their speed."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from allora_lab import METHODS, RunConfig, commands, run
from allora_lab.cli import main
from allora_lab.commands import out_of_memory
from allora_lab.experiments.records import read_record, write_record
from allora_lab.files import REPOSITORY
from allora_lab.planning.memory import step_memory
from allora_lab.training.deterministic import CUBLAS, deterministic_kernels

SHORT = {"steps": 3, "eval_size": 16, "train_size": 64, "max_length": 24}
CONFIG = RunConfig(method="allora", **SHORT)


@pytest.fixture(scope="module")
def record():
    return run(CONFIG, device="cpu")


def test_new_settings_at_their_defaults_name_no_run_anew():
    paths = sorted((REPOSITORY / "results" / "escape").glob("*.json"))[:5]
    for path in paths:
        values = json.loads(path.read_text())
        assert "dtype" not in values["config"] or "tokens_per_second" in values
        old = read_record(path)
        assert old.run_id == path.stem
    assert paths
    assert CONFIG.run_id == CONFIG.with_changes(dtype="float32", compile=False).run_id
    other = {CONFIG.with_changes(**{k: v}).run_id for k, v in CHANGES.items()}
    assert len({CONFIG.run_id, *other}) == 4


CHANGES = {"dtype": "bfloat16", "compile": True, "gradient_checkpointing": True}


def test_a_record_without_the_speed_is_still_a_record(record, tmp_path):
    write_record(tmp_path / "r.json", record)
    values = json.loads((tmp_path / "r.json").read_text())
    assert values.pop("tokens_per_second") > 0
    (tmp_path / "r.json").write_text(json.dumps(values))
    assert read_record(tmp_path / "r.json").tokens_per_second is None
    values.pop("device")
    (tmp_path / "r.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="not a record of this version"):
        read_record(tmp_path / "r.json")


def test_the_speed_counts_tokens_without_padding(record):
    tokens = record.tokens_per_second * record.train_seconds
    assert 3 * 16 * 3 < tokens <= 3 * 16 * 24


def test_a_run_in_bfloat16_trains_almost_as_one_in_float32(record):
    models = []
    narrow = run(CONFIG.with_changes(dtype="bfloat16"), device="cpu", on_built=models.append)
    types = {p.requires_grad: p.dtype for p in models[0].parameters()}
    assert types == {True: torch.float32, False: torch.bfloat16}
    assert narrow.trace["loss"] == pytest.approx(record.trace["loss"], rel=0.02)
    assert narrow.trace["loss"] != record.trace["loss"]
    assert narrow.trainable_parameters == record.trainable_parameters


def test_checkpointing_layers_changes_no_number(record):
    again = run(CONFIG.with_changes(gradient_checkpointing=True), device="cpu", deterministic=True)
    assert again.trace["loss"] == record.trace["loss"]
    assert again.metrics == record.metrics


COMPILED = """
from allora_lab import RunConfig, run

for compiled in (False, True):
    short = {"steps": 3, "eval_size": 8, "train_size": 16, "max_length": 16, "batch_size": 4}
    print(run(RunConfig(method="allora", compile=compiled, **short), device="cpu").trace["loss"])
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_a_compiled_run_trains_as_one_that_is_not():
    # in a process of its own: the test suite's type checks would be compiled too
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False
    )
    plain, compiled = map(json.loads, done.stdout.splitlines())
    assert len(plain) == 3
    assert compiled == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"compile": True}])
@pytest.mark.parametrize("method", [k for k, m in METHODS.items() if m.build_hook])
def test_methods_that_move_ranks_are_refused(method, change):
    with pytest.raises(ValueError, match="needs float32 and no compile: leave"):
        RunConfig(method=method, **change)


def test_deterministic_kernels_last_as_long_as_the_block(monkeypatch):
    monkeypatch.delenv(CUBLAS, raising=False)
    inside = []

    def fail():
        with deterministic_kernels():
            inside.append((torch.are_deterministic_algorithms_enabled(), os.environ[CUBLAS]))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside == [(True, ":4096:8")]
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic_kernels(False):
        assert not torch.are_deterministic_algorithms_enabled()


BAD = {
    "dtype": (["--dtype", "float16"], "unknown dtype 'float16'"),
    "cuda": (["--device", "cuda"], "there is no device 'cuda' here"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case, tmp_path, monkeypatch, capsys):
    if case == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    monkeypatch.chdir(tmp_path)
    words, message = BAD[case]
    assert main(["run", "--method", "lora", *words]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("gib", "words"),
    [(1.2, "it would fit with --gradient-checkpointing ("), (80, "free what else uses it")],
)
def test_out_of_memory_is_one_sentence_with_what_would_fit(gib, words, monkeypatch):
    # what a GPU says of its memory; the rest is the plan's own arithmetic
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, int(gib * 2**30)))
    text = out_of_memory(CONFIG.with_changes(max_length=128, batch_size=16))
    assert words in text
    assert "\n" not in text


def test_out_of_memory_of_a_decoder_is_reckoned_as_a_decoders(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 80 * 2**30))
    monkeypatch.setattr(
        commands, "step_memory", lambda *a, **k: asked.append(k) or step_memory(*a, **k)
    )
    for dataset in ("e2e", "rotten_tomatoes"):
        out_of_memory(
            RunConfig(
                method="lora", model="smollm-135m", dataset=dataset, target_modules=("q_proj",)
            )
        )
    assert [k["task"] for k in asked] == ["causal-lm", "sequence-classification"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_deterministic_run_on_cuda_repeats_itself(dtype):
    config = CONFIG.with_changes(dtype=dtype)
    first, second = (run(config, device="cuda", deterministic=True) for _ in range(2))
    assert first.trace["loss"] == second.trace["loss"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_that_is_full_gives_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.cuda.set_per_process_memory_fraction(1e-3)
    try:
        assert main(["run", "--method", "lora", "--device", "cuda", "--steps", "2"]) == 2
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "memory ran out" in capsys.readouterr().err
