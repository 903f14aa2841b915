"""ALLoRA over ten epochs: which runs meet which, what collapses, and sentences that follow numbers."""

import math
from dataclasses import replace

import pytest

from allora_lab.experiments.claim_sweeps import stable_at
from allora_lab.experiments.epochs import training_loss_by_epoch
from allora_lab.experiments.records import read_record, write_record
from allora_lab.experiments.stability import collapses, kinds, stability_content
from allora_lab.experiments.sweep import read_sweep
from allora_lab.files import REPOSITORY

TEMPLATE = read_record(min((REPOSITORY / "results" / "escape").glob("*.json")))
SWEEP = read_sweep(REPOSITORY / "sweeps" / "stability.toml")
GAIN = {"lora-at-lr": -1, "lora-at-eta-lr": 0, "allora": -2, "allora-update": 3}  # points


def a_record(config, accuracies, losses):
    """Return a record with accuracies (0 to 1) from before training on, and a loss for each epoch."""
    steps = config.eval_every
    trace = {
        "step": [0],
        "row_norm_mean": [0.0],
        "loss": [loss for loss in losses for _ in range(steps)],
        "evaluations": {"step": [steps * i for i in range(11)], "accuracy": accuracies},
    }
    metrics = {"eval_accuracy": accuracies[-1], "eval_loss": 0.5}
    values = {"run_id": config.run_id, "config": config.to_json()}
    return replace(TEMPLATE, **values, metrics=metrics, trace=trace)


def a_run(config, gain=0.0):
    """Return a run whose accuracy grows by a point an epoch, gains from epoch 6 on, loss falling."""
    curve = [0.5 + 0.01 * (e + config.seed) + (e > 5) * gain / 100 for e in range(11)]
    return a_record(config, curve, [1 / (1 + epoch) for epoch in range(10)])


@pytest.fixture
def put(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    return lambda record: write_record(tmp_path / "stability" / f"{record.run_id}.json", record)


@pytest.fixture
def recorded(put):
    """Record the whole sweep; a kind's accuracy is its GAIN higher from epoch 6 on."""
    kind = kinds(SWEEP.configs)
    for config in SWEEP.configs:
        put(a_run(config, GAIN[kind[config.run_id]]))


def test_lora_at_the_lower_rate_and_at_twice_it_are_told_apart():
    kind = kinds(SWEEP.configs)
    found = {(config.method, config.lr, kind[config.run_id]) for config in SWEEP.configs}
    assert found == {
        ("lora", 0.001, "lora-at-lr"),
        ("lora", 0.002, "lora-at-eta-lr"),
        ("allora", 0.001, "allora"),
        ("allora-update", 0.001, "allora-update"),
    }


@pytest.mark.usefixtures("recorded")
def test_each_line_has_its_runs_and_the_losses_are_means_over_an_epoch():
    accuracy, loss = stability_content()["panels"]
    assert [line["label"] for line in accuracy["lines"]] == [
        "LoRA at lr",
        "LoRA at η × lr",
        "ALLoRA",
        "ALLoRA on the update (ours)",
    ]
    for line, gain in zip(accuracy["lines"], GAIN.values(), strict=True):
        assert line["mean"] == pytest.approx([52 + e + (e > 5) * gain for e in range(1, 11)])
        assert line["half"] == pytest.approx([2.776445 * math.sqrt(2.5 / 5)] * 10)
    assert loss["lines"][0]["mean"] == pytest.approx([1 / epoch for epoch in range(1, 11)])
    assert [line["dashed"] for line in accuracy["lines"]] == [False, True, False, False]


@pytest.mark.usefixtures("recorded")
def test_sentences_compare_after_five_epochs_and_after_ten():
    said = stability_content()["sentences"]
    for expected in (
        "After epoch 5, ALLoRA is not told apart from LoRA at η × lr: +0.0 points [+0.0, +0.0], 5 seeds.",
        "After epoch 10, ALLoRA is below LoRA at η × lr: -2.0 points [-2.0, -2.0], 5 seeds.",
        "After epoch 10, ALLoRA is below LoRA at lr: -1.0 points [-1.0, -1.0], 5 seeds.",
        "After epoch 10, ALLoRA on the update (ours) is above LoRA at η × lr: +3.0 points [+3.0, +3.0], 5 seeds.",
        "Of the sweep stability, 20 of 20 runs are recorded.",
    ):
        assert expected in said
    assert any(s.startswith("From epoch 5 to 10 accuracy changes: LoRA at lr +4.0") for s in said)
    assert any("after epochs 5 and 10, in points: LoRA at lr 1.6 and 1.6;" in s for s in said)
    assert any(s.startswith("Runs that collapse: 0 of 20, that is, ") for s in said)


def test_a_run_collapses_by_its_loss_or_by_its_accuracy():
    config = SWEEP.configs[0]
    falling, rising = [1 - 0.05 * i for i in range(10)], [0.5 + 0.05 * i for i in range(10)]
    steady = [0.5] + [0.7] * 10
    assert not collapses(a_record(config, steady, falling))
    assert collapses(a_record(config, steady, rising))
    assert collapses(a_record(config, [*steady[:5], 0.8, *steady[6:]], falling))
    assert not collapses(a_record(config, [*steady[:5], 0.74, *steady[6:]], falling))


def test_a_collapse_is_counted_with_its_kind(put, recorded):
    config = next(c for c in SWEEP.configs if c.method == "allora-update")
    put(a_record(config, [0.5] + [0.8] * 9 + [0.5], [1.0] * 10))
    said = stability_content()["sentences"]
    assert any(
        "Runs that collapse: 1 of 20 (ALLoRA on the update (ours) 1)" in sentence
        for sentence in said
    )


def test_the_last_epoch_may_be_shorter_than_the_others():
    record = a_run(SWEEP.configs[0])
    cut = replace(record, trace={**record.trace, "loss": [1.0] * 128 + [2.0, 4.0]})
    assert training_loss_by_epoch(cut) == [1.0, 3.0]


def test_evidence_waits_for_every_seed_and_is_against_lora_at_the_scaled_rate(put):
    kind = kinds(SWEEP.configs)
    for config in SWEEP.configs:
        assert stable_at("allora-update", 10) is None
        if kind[config.run_id] in ("lora-at-eta-lr", "allora-update"):
            put(a_run(config, GAIN[kind[config.run_id]]))
        if config.method == "lora" and config.lr == 0.002 and config.seed == 4:
            break
    found = stable_at("allora-update", 10)
    assert (found.n, found.mean) == (5, pytest.approx(3))
    assert stable_at("allora-update", 5).mean == pytest.approx(0)
    assert stable_at("allora", 10) is None


@pytest.mark.usefixtures("recorded")
def test_all_four_pieces_of_evidence_are_there_once_all_is_recorded():
    means = {(k, e): stable_at(k, e).mean for k in ("allora", "allora-update") for e in (5, 10)}
    expected = {("allora", 5): 0, ("allora", 10): -2, ("allora-update", 5): 0}
    assert means == pytest.approx({**expected, ("allora-update", 10): 3}, abs=1e-9)


def test_one_seed_of_each_is_not_enough_and_two_of_one_are(put):
    put(a_run(SWEEP.configs[0]))
    with pytest.raises(FileNotFoundError, match="no two seeds of stability are recorded"):
        stability_content()
    put(a_run(SWEEP.configs[2]))
    content = stability_content()
    assert len(content["panels"][0]["lines"]) == 1
    assert not any(sentence.startswith("After") for sentence in content["sentences"])
