"""A decoder goes through the same run as a classifier: same loop, same resume, other scores."""

import json
from dataclasses import replace

import pytest
from transformers import AutoTokenizer

from allora_lab import RunConfig
from allora_lab.data.datasets import load_dataset
from allora_lab.data.prompts import Prompt
from allora_lab.experiments.runner import run
from allora_lab.experiments.tasks import accuracy_by_task, chance, first_named
from allora_lab.methods import METHODS
from allora_lab.training.generate import generate_texts
from tests.decoders.conftest import DECODERS, TARGETS

OPTIONS = ("the correct answer is answer1", "the correct answer is answer2")


@pytest.fixture
def saved(family, decoder, tokenizer, tmp_path):
    folder = tmp_path / family
    decoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder)("one")["input_ids"][0] == 1
    return folder


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.json"
    words = ["one", "two", "three", "four"]
    path.write_text(
        json.dumps(
            [
                {"instruction": f"{a} {b} {c}", "output": f"{c} {b}"}
                for a in words
                for b in words
                for c in words
            ]
        )
    )
    return path


def settings(saved, rows, family, method="allora", **changes):
    values = {
        "model": str(saved),
        "dataset": str(rows),
        "method": method,
        "target_modules": TARGETS[family],
        "r": 2,
        "steps": 6,
        "batch_size": 4,
        "max_length": 24,
        "eval_size": 6,
        **changes,
    }
    return RunConfig(**values)


def test_a_run_learns_and_is_scored_by_loss_and_by_what_it_writes(saved, rows, family):
    config = settings(saved, rows, family, steps=60, lr=0.05, eval_every=60)
    record = run(config, device="cpu")
    assert set(record.metrics) == {"eval_loss", "eval_bleu", "eval_rouge_l", "eval_meteor"}
    before, after = (row for row in record.trace["evaluations"]["loss"])
    assert after < before - 0.2
    assert after == pytest.approx(record.metrics["eval_loss"])
    assert record.config["dataset"].endswith("rows.json")
    assert "/" not in record.run_id


@pytest.mark.parametrize(
    "method", ["dora", "allora-update", "alora-ablation", "alora-dnas", "sora", "adalora"]
)
def test_every_method_trains_a_decoder(method, rows, tokenizer, tmp_path):
    folder = tmp_path / "llama"
    DECODERS["llama"]().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    moving = METHODS[method].build_hook is not None
    counts = {"first_round": 2, "round_every": 1} if moving and method != "sora" else {}
    changes = {"rank_budget": 6, "r": 2} if method == "adalora" else {}
    config = settings(folder, rows, "llama", method, **{**counts, **changes})
    record = run(config, device="cpu")
    assert len(record.trace["loss"]) == 6


def test_a_stopped_run_goes_on_to_the_same_numbers(saved, rows, family, tmp_path):
    config = settings(saved, rows, family, lora_dropout=0.1, method="allora-dropout")
    whole = run(config, device="cpu")
    asked = iter(range(9))
    checkpoint = tmp_path / "c.safetensors"
    assert (
        run(config, device="cpu", checkpoint=checkpoint, should_stop=lambda: next(asked) == 3)
        is None
    )
    again = run(config, device="cpu", checkpoint=checkpoint)
    clock = {
        "train_seconds": 0,
        "finished_at": "",
        "peak_memory_bytes": 0,
        "tokens_per_second": 0.0,
    }
    assert replace(again, **clock) == replace(whole, **clock)


def prompts(*groups):
    return tuple(Prompt("q", OPTIONS[1], OPTIONS, group=group) for group in groups)


def test_the_first_option_a_text_names_counts_and_none_is_wrong():
    (prompt,) = prompts("piqa")
    assert first_named("I say answer2, not answer1", prompt) == OPTIONS[1]
    assert first_named("answer1 or answer2", prompt) == OPTIONS[0]
    assert first_named("nothing", prompt) == ""


def test_accuracy_is_a_mean_over_tasks_and_chance_that_of_a_guess():
    asked = prompts("a", "a", "a", "b")
    chosen = [OPTIONS[1], OPTIONS[0], OPTIONS[0], OPTIONS[1]]
    assert accuracy_by_task(asked, chosen) == {"a": 1 / 3, "b": 1.0}
    four = Prompt("q", "1", ("1", "2", "3", "4"), group="c")
    assert chance((*asked, four)) == pytest.approx((1 / 2 + 1 / 2 + 1 / 4) / 3)


def test_questions_are_scored_by_likelihood_and_by_what_is_written(
    saved, family, tmp_path, monkeypatch
):
    monkeypatch.setenv("ALLORA_LAB_DATA", str(tmp_path))
    (tmp_path / "commonsense").mkdir()
    asked = "{} one two\n\nAnswer format: yes/no"
    for name, numbers in (("boolq_train", range(20)), ("boolq_test", range(50, 56))):
        made = [
            {"instruction": asked.format(n), "output": "the correct answer is yes", "answer": "yes"}
            for n in numbers
        ]
        (tmp_path / "commonsense" / f"{name}.json").write_text(json.dumps(made))
    trained = []
    config = settings(saved, "commonsense", family, steps=80, lr=0.05, eval_split="test")
    metrics = run(config, device="cpu", on_built=trained.append).metrics
    assert metrics["eval_chance"] == 0.5
    assert metrics["eval_accuracy"] == metrics["eval_accuracy_boolq"] == 1.0
    asked = [p.text for p in load_dataset("commonsense").test.prompts]
    words = AutoTokenizer.from_pretrained(saved)
    texts = generate_texts(trained[0], words, asked, max_length=24, max_new_tokens=32, num_beams=4)
    right = sum("yes" in text and "no" not in text.partition("yes")[0] for text in texts)
    assert metrics["eval_generated_accuracy"] == right / len(texts)
