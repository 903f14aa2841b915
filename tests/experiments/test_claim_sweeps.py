"""What a sweep's records say of a claim: a comparison of the whole sweep or a part, and dropout."""

import math

import pytest

from allora_lab.config import RunConfig
from allora_lab.experiments import collected
from allora_lab.experiments.claim_sweeps import (
    best_epoch,
    dropout_at,
    late_epochs,
    never_started,
    pooled_evidence,
)
from allora_lab.experiments.records import RunRecord, record_path, write_record
from allora_lab.experiments.sweep import read_sweep

SWEEP = """
name = "toy"
[base]
steps = 4
[[block]]
vary = { method = ["lora", "allora"], seed = [0, 1, 2] }
[[compare]]
name = "ALLoRA - LoRA"
ours = { method = "allora" }
theirs = { method = "lora" }
match = ["lr"]
"""


def a_record(config, accuracy, trace=None):
    return RunRecord(
        run_id=config.run_id,
        config=config.to_json(),
        metrics={"eval_accuracy": accuracy, "eval_loss": 0.5},
        trace={"loss": [0.5] * config.steps, "step": [0], "row_norm_mean": [0.0], **(trace or {})},
        trainable_parameters=1,
        train_seconds=1.0,
        peak_memory_bytes=1,
        model_revision="m",
        dataset_revision="d",
        code_commit=None,
        code_dirty=None,
        packages={},
        device="cpu: x",
        finished_at="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(collected, "REPOSITORY", tmp_path)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "toy.toml").write_text(SWEEP)


def test_a_comparison_counts_once_every_planned_seed_is_recorded(toy):
    for seed, (ours, theirs) in enumerate([(0.51, 0.50), (0.62, 0.60), (0.73, 0.70)]):
        assert pooled_evidence("toy", "ALLoRA - LoRA", {}) is None
        for method, accuracy in (("allora", ours), ("lora", theirs)):
            config = RunConfig(method=method, steps=4, seed=seed)
            write_record(record_path("toy", config), a_record(config, accuracy))
    found = pooled_evidence("toy", "ALLoRA - LoRA", {})
    assert found.n == 3
    assert math.isclose(found.mean, 2)
    assert math.isclose(found.high, 2 + 4.302653 / math.sqrt(3), rel_tol=1e-6)


def record_both(method_accuracy):
    for seed in range(3):
        for method, accuracy in method_accuracy.items():
            config = RunConfig(method=method, steps=4, seed=seed)
            write_record(record_path("toy", config), a_record(config, accuracy + 0.1 * seed))


def test_what_was_read_is_read_anew_when_a_record_or_the_file_changes(toy, tmp_path, monkeypatch):
    record_both({"allora": 0.51, "lora": 0.50})
    first = collected.read_recorded("toy")
    assert collected.read_recorded("toy") is first
    assert first.comparison("ALLoRA - LoRA") is first.comparison("ALLoRA - LoRA")
    assert math.isclose(pooled_evidence("toy", "ALLoRA - LoRA", {}).mean, 1)
    record_both({"allora": 0.55})
    assert math.isclose(pooled_evidence("toy", "ALLoRA - LoRA", {}).mean, 5)
    path = tmp_path / "sweeps" / "toy.toml"
    path.write_text(SWEEP.replace("ours = ", "theirs0 = ").replace("theirs = ", "ours = "))
    path.write_text(path.read_text().replace("theirs0", "theirs"))
    assert math.isclose(pooled_evidence("toy", "ALLoRA - LoRA", {}).mean, -5)
    record_path("toy", RunConfig(method="lora", steps=4, seed=2)).unlink()
    assert pooled_evidence("toy", "ALLoRA - LoRA", {}) is None
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path / "elsewhere"))
    assert collected.read_recorded("toy").records == ()


def test_where_keeps_the_settings_asked_for(toy, tmp_path):
    path = tmp_path / "sweeps" / "toy.toml"
    path.write_text(SWEEP.replace("vary = { method", "vary = { r = [4, 8], method"))
    for r, gain in ((4, 0.01), (8, 0.03)):
        assert pooled_evidence("toy", "ALLoRA - LoRA", {"r": r}) is None
        for seed in range(3):
            for method in ("lora", "allora"):
                config = RunConfig(method=method, steps=4, seed=seed, r=r)
                accuracy = 0.5 + 0.1 * seed + gain * (method == "allora")
                write_record(record_path("toy", config), a_record(config, accuracy))
        assert math.isclose(pooled_evidence("toy", "ALLoRA - LoRA", {"r": r}).mean, 100 * gain)
    assert math.isclose(pooled_evidence("toy", "ALLoRA - LoRA", {}).mean, 2)
    with pytest.raises(ValueError, match="no group of 'ALLoRA - LoRA'"):
        pooled_evidence("toy", "ALLoRA - LoRA", {"r": 16})
    with pytest.raises(ValueError, match="unknown setting of a run of toy 'rank'"):
        pooled_evidence("toy", "ALLoRA - LoRA", {"rank": 4})


def test_a_sweep_or_comparison_that_is_not_there_is_named(toy):
    with pytest.raises(ValueError, match="there is no sweep 'tot'"):
        pooled_evidence("tot", "ALLoRA - LoRA", {})
    with pytest.raises(ValueError, match=r"unknown comparison of sweeps/toy\.toml 'ALLoRA - DoRA'"):
        pooled_evidence("toy", "ALLoRA - DoRA", {})


def test_dropout_is_compared_at_an_epoch_and_by_the_best_epoch(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    for config in read_sweep(collected.REPOSITORY / "sweeps" / "dropout-epochs.toml").configs:
        best = {0.0: 6, 0.4: 10}.get(config.lora_dropout, 8)
        curve = [0.95] + [0.9 - 0.01 * abs(epoch - best) for epoch in range(1, 11)]
        curve[10] += 0.001 * config.seed * (config.lora_dropout == 0.4)
        seen = {"step": [128 * epoch for epoch in range(11)], "accuracy": curve, "loss": curve}
        record = a_record(config, curve[-1], {"evaluations": seen})
        write_record(record_path("dropout-epochs", config), record)
    short, long = (dropout_at(epoch, 0.4) for epoch in (3, 10))
    assert math.isclose(short.mean, -4)
    assert math.isclose(long.mean, 4 + 0.1 * 2)
    assert long.low < long.mean < long.high
    assert best_epoch(0.4).mean == 4
    assert best_epoch(0.2).mean == 2
    assert math.isclose(dropout_at(10, 0.05).mean, 2)
    late = late_epochs(0.0, 6, 10)
    assert math.isclose(late.mean, -4)
    assert late.n == 5


def test_a_run_that_never_started_is_one_at_the_share_of_the_largest_class():
    assert never_started("emotion", 34.2)
    assert not never_started("emotion", 44.1)
    assert not never_started("rotten_tomatoes", 34.2)


def test_the_seed_that_never_started_is_found_in_the_records():
    found = pooled_evidence("ablation", "ALLoRA - ASF-LoRA", {})
    assert found.unstarted == (3,)
    assert found.without_unstarted().seeds == (0, 1, 2, 4)
    assert (
        pooled_evidence("perception", "ALLoRA - LoRA at lr", {"optimizer": "sgd"}).unstarted == ()
    )


def test_a_default_that_is_not_given_can_be_asked_for():
    where = {"dataset": "rotten_tomatoes", "r": 4}
    found = pooled_evidence("allocation", "ALoRA - LoRA", {**where, "ranks_moved": "default"})
    assert found.what.endswith("n_A = 6, points of accuracy")
    both = pooled_evidence("allocation", "ALoRA - LoRA", where)
    assert "mean of 2 settings" in both.what
