"""What a step costs beside LoRA's: ratios round by round, and records that are refused."""

import json

import pytest

from allora_lab.experiments.cost import cost_content, read_cost_record, step_cost, time_ratio
from allora_lab.experiments.statistics import median_interval
from allora_lab.plots.forest import forest_figure

ROUNDS = 9
VALUES = {
    # each round has a level of its own, which the ratio in that round takes out
    "seconds": {
        "lora": [1.0 + i for i in range(ROUNDS)],
        "allora": [(1.0 + i) * (1 + i / 100) for i in range(ROUNDS)],
        "allora-update": [(1.0 + i) * 1.02 for i in range(ROUNDS)],
        "dora": [(1.0 + i) * 1.5 for i in range(ROUNDS)],
        "PEFT DoRA": [(1.0 + i) * 2 for i in range(ROUNDS)],
    },
    "peak_bytes": {
        "lora": 2**20,
        "allora": 2**20,
        "allora-update": 2**20,
        "dora": 3 * 2**20,
        "PEFT DoRA": 2**21,
    },
    "r": 8,
    "batch": 32,
    "tokens": 64,
    "target_modules": ["dense"],
    "code_commit": "c",
    "code_dirty": False,
    "packages": {},
    "device": "cpu: x, 1 thread",
    "finished_at": "",
}


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    (tmp_path / "cost").mkdir()
    return tmp_path / "cost" / "step.json"


def test_the_median_of_nine_has_the_second_and_the_eighth_as_ends():
    # P(at most 1 of 9 below the median) = 10 / 512 < 0.025 < P(at most 2)
    assert median_interval([9, 1, 8, 2, 7, 3, 6, 4, 5]) == (5, 2, 8)
    assert median_interval([1, 2, 3, 4, 5, 1000]) == (3.5, 1, 1000)
    with pytest.raises(ValueError, match="needs six values, got 5"):
        median_interval([1, 2, 3, 4, 5])


def test_a_ratio_is_to_lora_in_the_same_round(path):
    path.write_text(json.dumps(VALUES))
    assert time_ratio(read_cost_record(path), "allora") == pytest.approx((1.04, 1.01, 1.07))
    assert time_ratio(read_cost_record(path), "dora") == pytest.approx((1.5, 1.5, 1.5))


def test_sentences_and_rows_give_the_ratios_to_lora(path):
    path.write_text(json.dumps(VALUES))
    content = cost_content()
    time, memory = content["panels"]
    assert [row["label"] for row in time["rows"]] == [
        "ALLoRA",
        "ALLoRA on the update (ours)",
        "DoRA",
        "PEFT DoRA",
    ]
    assert [row["mean"] for row in time["rows"]] == pytest.approx([4, 2, 50, 100])
    assert (time["rows"][0]["low"], time["rows"][0]["high"]) == pytest.approx((1, 7))
    assert [row["mean"] for row in memory["rows"]] == pytest.approx([0, 0, 200, 100])
    assert {row["low"] for row in memory["rows"]} == {None}
    assert "32 x 64 tokens, r = 8" in content["sentences"][0]
    assert "median of 9 rounds" in content["sentences"][0]
    assert content["sentences"][1] == (
        "ALLoRA: a step takes 1.040 [1.010, 1.070] times the processor time of one of LoRA, and at its "
        "peak 1.000 times the memory (+0.00 MiB)."
    )
    assert "3.000 times the memory (+2.00 MiB)" in content["sentences"][3]
    assert len(forest_figure(content).axes) == 2


def test_evidence_is_the_median_over_rounds_and_a_peak_that_repeats(path):
    assert step_cost("allora", "time") is None
    path.write_text(json.dumps(VALUES))
    time = step_cost("allora", "time")
    assert (time.n, time.units) == (9, "rounds")
    assert (time.mean, time.low, time.high) == pytest.approx((1.04, 1.01, 1.07))
    memory = step_cost("dora", "memory")
    assert (memory.kind, memory.values) == ("count", (3,))


def test_without_a_record_a_sentence_says_how_to_make_it(path):
    with pytest.raises(FileNotFoundError, match=r"python benchmarks/step\.py --rounds 30 --json"):
        cost_content()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a record of this version"),
        (json.dumps({**VALUES, "more": 1}), "is not a record of this version"),
        (
            json.dumps({**VALUES, "seconds": {**VALUES["seconds"], "allora": [1.0]}}),
            "does not have every contender in every round",
        ),
        (
            json.dumps({**VALUES, "peak_bytes": {"lora": 1}}),
            "does not have every contender in every round",
        ),
        (
            json.dumps({**VALUES, "seconds": {"dora": [1.0]}, "peak_bytes": {"dora": 1}}),
            "has no 'lora' to compare with",
        ),
    ],
)
def test_what_is_no_record_is_refused_in_words(path, text, words):
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_cost_record(path)
