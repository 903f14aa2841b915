"""Runs, records, sweeps and what is said of them; the runs are short but of the real MiniLM."""

import itertools
import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from allora_lab import RunConfig, run
from allora_lab.experiments import environment
from allora_lab.experiments.demo import demo_configs
from allora_lab.experiments.findings import sentence, sentences
from allora_lab.experiments.records import read_record, record_path, write_record
from allora_lab.experiments.sweep import read_sweep
from allora_lab.experiments.sweep_run import run_sweep
from allora_lab.files import results_folder, written_whole

SHORT = {"steps": 3, "eval_size": 16, "train_size": 64, "max_length": 24}
CONFIG = RunConfig(method="allora", lora_dropout=0.1, **SHORT)
SWEEPS = Path(__file__).parents[2] / "sweeps"


@pytest.fixture(scope="module")
def record():
    return run(CONFIG, device="cpu")


def without_clock(record):
    same = {"train_seconds": 0, "finished_at": "", "peak_memory_bytes": 0, "tokens_per_second": 0}
    return replace(record, **same)


def test_a_run_repeats_itself_exactly(record):
    torch.manual_seed(77)
    assert without_clock(run(CONFIG, device="cpu")) == without_clock(record)


def test_another_seed_is_another_run(record):
    other = run(CONFIG.with_changes(seed=1), device="cpu")
    assert other.trace["loss"] != record.trace["loss"]


def test_a_stopped_run_gives_no_record_and_resumes_to_the_same_one(record, tmp_path):
    path = tmp_path / "run.safetensors"
    asked = iter(range(9))
    stopped = run(CONFIG, device="cpu", checkpoint=path, should_stop=lambda: next(asked) == 2)
    assert stopped is None
    assert without_clock(run(CONFIG, device="cpu", checkpoint=path)) == without_clock(record)


def test_a_finished_run_is_lost_by_no_kill_before_its_record_is_written(record, tmp_path):
    path, done = tmp_path / "run.safetensors", []
    run(CONFIG, device="cpu", checkpoint=path)
    again = run(CONFIG, device="cpu", checkpoint=path, on_step=done.append)
    assert done == []
    assert (again.trace, again.metrics) == (record.trace, record.metrics)


def test_a_record_says_what_was_run_and_where(record):
    assert record.config == CONFIG.to_json()
    assert record.trainable_parameters == 12 * 2 * 8 * 384 + 2 * 384 + 2
    assert set(record.metrics) == {"eval_accuracy", "eval_loss"}
    assert record.packages["torch"] == version("torch")
    assert len(record.dataset_revision) == len(record.model_revision) == 64
    assert record.trace["row_norm_mean"][0] == 0 < record.trace["row_norm_mean"][-1]


def test_a_record_comes_back_from_its_file_as_it_was(record, tmp_path):
    write_record(tmp_path / "r.json", record)
    assert read_record(tmp_path / "r.json") == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["config"].update(lr=0.5), "was edited"),
        (lambda v: v.pop("device"), "not a record of this version"),
        (lambda v: v.update(note="x"), "not a record of this version"),
        (lambda v: v["config"].update(method="alora"), "ambiguous"),
    ],
)
def test_an_edited_record_is_refused(record, tmp_path, change, message):
    path = tmp_path / "r.json"
    write_record(path, record)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        read_record(path)


def test_a_truncated_record_is_refused(record, tmp_path):
    path = tmp_path / "r.json"
    write_record(path, record)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match="is not JSON"):
        read_record(path)


def test_a_file_that_fails_half_way_leaves_the_old_one_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail():
        with written_whole(path) as partial:
            partial.write_text("ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half"):
        fail()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.json", "old")]


def test_all_committed_records_are_valid_and_of_clean_code():
    paths = sorted((results_folder() / "escape").glob("*.json"))
    assert len(paths) >= 35
    for path in paths:
        record = read_record(path)
        assert path.stem == record.run_id
        assert record.code_dirty is False


@pytest.mark.parametrize(
    "config", demo_configs(), ids=lambda c: f"{c.method}-{c.optimizer}-{c.lr:g}"
)
def test_the_first_eight_steps_of_the_recorded_runs_come_out_again(config):
    known = read_record(record_path("escape", config)).trace
    trace = run(config.with_changes(steps=8, eval_size=8), device="cpu").trace
    count = len(trace["step"])
    assert trace["step"] == known["step"][:count] == [0, 1, 2, 4, 8]
    assert trace["row_norm_mean"] == pytest.approx(known["row_norm_mean"][:count], rel=1e-3)
    assert trace["loss"] == pytest.approx(known["loss"][:8], rel=1e-3)


SWEEP = """
name = "small"
[base]
steps = 2
eval_size = 16
train_size = 32
max_length = 16
[[block]]
set = { method = "lora" }
vary = { r = [2, 4] }
[[block]]
vary = { method = ["lora", "allora"], r = [4] }
"""


@pytest.fixture
def small_sweep(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path / "results"))
    path = tmp_path / "small.toml"
    path.write_text(SWEEP)
    return read_sweep(path)


def test_a_sweep_expands_every_combination_once(small_sweep):
    assert [(c.method, c.r, c.steps) for c in small_sweep.configs] == [
        ("lora", 2, 2),
        ("lora", 4, 2),
        ("allora", 4, 2),
    ]


def test_a_sweep_runs_what_is_missing_and_nothing_twice(small_sweep):
    started = []

    def note(done, total, config):
        started.append((done, total, config.r))
        return lambda _progress: None

    assert run_sweep(small_sweep, device="cpu", part=0, parts=2, on_run=note) == {"recorded": 2}
    assert [c.r for c in small_sweep.pending()] == [4]
    assert run_sweep(small_sweep, device="cpu", on_run=note) == {"recorded": 1}
    assert run_sweep(small_sweep, device="cpu", on_run=note) == {}
    assert started == [(0, 2, 2), (1, 2, 4), (0, 1, 4)]
    for config in small_sweep.configs:
        assert read_record(record_path("small", config)).config == config.to_json()


def test_parts_are_disjoint_and_cover_the_sweep():
    sweep = read_sweep(SWEEPS / "escape.toml")
    parts = [[c.run_id for c in sweep.configs[i::3]] for i in range(3)]
    assert sorted(itertools.chain(*parts)) == sorted(c.run_id for c in sweep.configs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[blok]]\n", "did you mean 'block'"),
        ("[[block]]\nvari = { r = [1] }\n", "did you mean 'vary'"),
        ("[[block]]\nset = { method = 'lora', stesp = 1 }\n", "did you mean 'steps'"),
        ("[[block]\n", "is not valid TOML"),
    ],
)
def test_a_malformed_sweep_is_one_clear_sentence(text, message, tmp_path):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_sweep(tmp_path / "s.toml")


def test_the_demos_runs_stand_in_the_escape_sweep():
    sweep = {c.run_id for c in read_sweep(SWEEPS / "escape.toml").configs}
    assert {c.run_id for seed in range(5) for c in demo_configs(seed)} <= sweep


def test_a_device_that_is_not_here_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"no device 'tpu' here: choose one of auto, cpu"):
        environment.resolve_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(ValueError, match="no device 'cuda' here"):
        run(CONFIG, device="cuda")


def synthetic(record, norms):
    return replace(record, trace={"step": [0, 8, 96], "row_norm_mean": [0.0, *norms]})


def test_sentences_follow_the_numbers(record):
    slow, fast = synthetic(record, [1.0, 10.0]), synthetic(record, [2.0, 30.0])

    def said(norms):
        return sentence("X", "SGD", synthetic(record, norms), slow, fast)

    assert "X follows LoRA at eta x lr" in said([2.1, 31.0])
    assert "keeps pace with it" in said([2.0, 30.0])
    assert "then tapers off (0.50 times after 96 steps)" in said([2.0, 15.0])
    assert "X follows LoRA at lr" in said([1.1, 11.0])
    assert "pulls ahead of it (2.00 times" in said([1.0, 20.0])
    assert "is nearest to LoRA at eta x lr" in said([4.0, 30.0])
    assert "4.00 times as long as LoRA's at lr and 2.00 times" in said([4.0, 30.0])


def test_sentences_need_their_runs(record):
    with pytest.raises(ValueError, match=r"no record of allora under sgd at lr 0\.1"):
        sentences([record], {"sgd": 0.1, "adamw": 1e-3}, 4.0)
