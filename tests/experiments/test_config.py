import json
from dataclasses import fields
from pathlib import Path

import pytest

from allora_lab.allocation.settings import AllocationSettings
from allora_lab.config import RunConfig, config_from, scaled_rate
from allora_lab.experiments.variance_config import variance_config_from
from allora_lab.methods import METHODS
from allora_lab.models.load import DTYPES
from allora_lab.settings import HOOK_SETTINGS
from allora_lab.training.optimizers import OPTIMIZERS, SCHEDULES

OTHER = {
    "method": "allora-od",
    "model": "somewhere/else",
    "dataset": "emotion",
    "r": 4,
    "lora_dropout": 0.1,
    "eta_squared": 9.0,
    "target_modules": ("key",),
    "optimizer": "sgd",
    "lr": 0.02,
    "head_lr": 0.02,
    "weight_decay": 0.1,
    "schedule": "linear",
    "warmup_steps": 3,
    "clip_norm": 1.0,
    "batch_size": 8,
    "steps": 7,
    "train_size": 9,
    "eval_size": 9,
    "eval_split": "test",
    "eval_every": 5,
    "max_length": 9,
    "length_pool": 9,
    "base_dropout": True,
    "seed": 1,
    "dtype": "bfloat16",
    "compile": True,
    "gradient_checkpointing": True,
    "gradient_accumulation_steps": 2,
}
# What only some methods read, each with one that does.
READ_BY = {
    "rank_budget": ("alora-random", 40),
    "ranks_moved": ("alora-random", 3),
    "rounds": ("alora-random", 3),
    "first_round": ("adalora", 3),
    "round_every": ("adalora", 3),
    "score_size": ("alora-ablation", 16),
    "copies": ("alora-ablation", 4),
    "gate_penalty": ("sora", 3.0),
    "gate_threshold": ("sora", 0.1),
    "gate_lr": ("alora-dnas", 0.1),
    "orthogonality": ("adalora", 0.3),
}
BASE = RunConfig(method="allora")


def test_every_setting_is_part_of_what_identifies_a_run():
    assert OTHER.keys() | {"lora_alpha", "gradient_draws"} | READ_BY.keys() == {
        field.name for field in fields(RunConfig)
    }
    ids = {BASE.with_changes(**{name: value}).run_id for name, value in OTHER.items()}
    lora = RunConfig(method="lora")
    ids |= {BASE.run_id, lora.run_id, lora.with_changes(lora_alpha=3.0).run_id}
    ids.add(BASE.with_changes(eval_every=5, gradient_draws=4).run_id)
    assert len(ids) == len(OTHER) + 4


@pytest.mark.parametrize("name", READ_BY)
def test_a_setting_of_some_methods_identifies_their_runs_and_is_refused_by_others(name):
    method, value = READ_BY[name]
    plain = RunConfig(method=method)
    changed = plain.with_changes(**{name: value})
    assert changed.run_id != plain.run_id
    assert changed.run_id != plain.with_changes(**{name: value + 1}).run_id
    assert config_from(changed.to_json()) == changed
    for key, row in METHODS.items():
        if name in row.hook_settings:
            assert getattr(RunConfig(method=key, **{name: value}), name) == value
            continue
        with pytest.raises(ValueError, match=f"{key} does not use {name}: leave it out"):
            RunConfig(method=key, **{name: value})


def test_a_rate_written_whole_is_the_same_run():
    assert (
        RunConfig(method="sora", gate_penalty=3).run_id
        == RunConfig(method="sora", gate_penalty=3.0).run_id
    )


def test_every_setting_a_hook_reads_is_one_a_run_can_have():
    read = {name for row in METHODS.values() for name in row.hook_settings}
    assert read == READ_BY.keys() == {*HOOK_SETTINGS}
    known = {field.name for field in fields(AllocationSettings)} | {"score_size"}
    assert read == known


def test_a_method_that_moves_no_rank_reads_none_of_it():
    for row in METHODS.values():
        assert bool(row.hook_settings) == (row.build_hook is not None)


@pytest.mark.parametrize(
    ("config", "run_id"),
    [
        (BASE, "minilm--rotten_tomatoes_rated--allora--adamw--seed0--ed5e54d4"),
        (
            RunConfig(method="lora", r=4, lora_alpha=8.0, optimizer="sgd", seed=2),
            "minilm--rotten_tomatoes_rated--lora--sgd--seed2--9ef14e6d",
        ),
    ],
)
def test_runs_made_before_a_setting_was_added_keep_their_names(config, run_id):
    assert config.run_id == run_id


def test_all_sentences_can_be_asked_for_in_a_file_that_has_no_none():
    every = config_from({"method": "lora", "train_size": "all", "eval_size": "all"})
    assert (every.train_size, every.eval_size) == (None, None)
    assert every == RunConfig(method="lora", train_size=None, eval_size=None)


def test_a_spread_of_gradients_needs_to_know_when_and_over_how_many():
    with pytest.raises(ValueError, match="gradient_draws needs eval_every"):
        RunConfig(method="lora", gradient_draws=4)
    with pytest.raises(ValueError, match="gradient_draws must be at least 2"):
        RunConfig(method="lora", gradient_draws=1, eval_every=2)


def test_equal_settings_written_otherwise_are_one_run():
    written = config_from(
        {"method": "allora", "eta_squared": 4, "target_modules": ["query", "value"]}
    )
    assert written == BASE
    assert written.run_id == BASE.run_id
    assert RunConfig(method="lora", r=4, lora_alpha=4) == RunConfig(method="lora", r=4)
    assert BASE.with_changes(lr=1).run_id == BASE.with_changes(lr=1.0).run_id


def test_a_none_is_filled_with_what_it_stands_for():
    assert BASE.eta_squared == 4.0
    assert RunConfig(method="lora").eta_squared is None
    assert RunConfig(method="allora-dropout").lora_dropout == 0.05
    assert RunConfig(method="lora", optimizer="sgd").lr == 0.1
    assert RunConfig(method="lora", lr=0.5).head_lr == 1e-3


def test_runs_of_one_setting_share_their_run_of_seed_0():
    run = RunConfig(method="allora", r=4, target_modules=("query",), seed=3)
    assert run.run_id.startswith("minilm--rotten_tomatoes_rated--allora--adamw--seed3--")
    setting = run.without_seed()
    assert setting == run.with_changes(seed=0)
    assert hash(setting) == hash(run.with_changes(seed=0))
    assert setting.run_id == run.with_changes(seed=0).run_id != run.run_id
    assert run.seed == 3


def test_the_run_id_names_a_file_and_survives_json():
    config = RunConfig(method="allora", model="org/name")
    assert "/" not in config.run_id
    assert config.run_id.startswith("name--rotten_tomatoes_rated--allora--adamw--seed0--")
    assert config_from(config.to_json()) == config


def test_scaled_rate_is_eta_times_lr_to_four_digits():
    assert scaled_rate(1e-3, 2.0) == 0.001414
    assert scaled_rate(0.1, 16.0) == 0.4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "alora"}, "ambiguous"),
        ({"method": "lorra"}, "did you mean 'lora'"),
        ({"method": "lora", "optimizer": "adam"}, "did you mean 'adamw'"),
        ({"method": "lora", "schedule": "cosin"}, "did you mean 'cosine'"),
        ({"method": "lora", "eta_squared": 4.0}, "lora does not use eta_squared"),
        ({"method": "allora", "lora_alpha": 4.0}, "allora does not use lora_alpha"),
        ({"method": "allora", "eta_squared": float("nan")}, "eta_squared must be a finite"),
        ({"method": "lora", "lr": 0.0}, "lr must be a finite number above 0"),
        ({"method": "lora", "lr": float("inf")}, "lr must be a finite number"),
        ({"method": "lora", "head_lr": -1.0}, "head_lr must be"),
        ({"method": "lora", "clip_norm": 0.0}, "clip_norm must be"),
        ({"method": "lora", "lora_dropout": 1.0}, "lora_dropout must be"),
        ({"method": "lora", "lora_dropout": -0.1}, "lora_dropout must be"),
        ({"method": "lora", "r": 0}, "r must be at least 1"),
        ({"method": "lora", "steps": 0}, "steps must be at least 1"),
        ({"method": "lora", "seed": -1}, "seed must be at least 0"),
        ({"method": "lora", "weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"method": "lora", "eval_split": "tset"}, "did you mean 'test'"),
        ({"method": "lora", "etasquared": 4.0}, "unknown setting 'etasquared': did you mean"),
        ({"method": "lora", "r": 2.5}, "r must be a whole number, got 2.5"),
        ({"method": "lora", "lr": "fast"}, "lr must be a number, got 'fast'"),
        ({"method": "lora", "base_dropout": 1}, "base_dropout must be true or false"),
        ({"method": "lora", "steps": True}, "steps must be a whole number"),
        ({"method": 3}, "method must be text"),
        ({"steps": 3}, "no method is named"),
        ({"method": "alora-random", "ranks_moved": 0}, "ranks_moved must be at least 1, got 0"),
        ({"method": "alora-random", "rank_budget": 0}, "rank_budget must be at least 1, got 0"),
        ({"method": "alora-random", "rounds": 1.5}, "rounds must be a whole number"),
        ({"method": "alora-random", "first_round": 0}, "first_round must be at least 1"),
        ({"method": "alora-random", "round_every": -1}, "round_every must be at least 1"),
        ({"method": "alora-ablation", "score_size": 0}, "score_size must be at least 1"),
        ({"method": "sora", "gate_penalty": 0.0}, "gate_penalty must be a finite number above 0"),
        ({"method": "sora", "gate_threshold": -1.0}, "gate_threshold must be a finite number"),
        ({"method": "alora-dnas", "gate_lr": float("nan")}, "gate_lr must be a finite number"),
        ({"method": "adalora", "orthogonality": 0.0}, "orthogonality must be a finite number"),
        ({"method": "sora", "rank_budget": 8}, "sora does not use rank_budget: leave it out"),
    ],
)
def test_a_bad_value_is_one_clear_sentence(values, message):
    with pytest.raises(ValueError, match=message) as caught:
        config_from(values)
    assert "\n" not in str(caught.value)


RESULTS = Path(__file__).parents[2] / "results"


def test_every_record_has_the_name_that_its_settings_give_it():
    named, settings = 0, {field.name for field in fields(RunConfig)}
    for path in sorted(RESULTS.rglob("*.json")):
        record = json.loads(path.read_text())
        config = record.get("config", {}) if isinstance(record, dict) else {}
        if "method" in config and config.keys() <= settings:  # others are of other studies
            assert config_from(config).run_id == record["run_id"]
            named += 1
    assert named > 1100


def test_the_choices_that_help_prints_are_the_tables():
    by_name = {field.name: field.metadata.get("choices") for field in fields(RunConfig)}
    assert by_name["optimizer"] == tuple(OPTIMIZERS)
    assert by_name["schedule"] == tuple(SCHEDULES)
    assert by_name["dtype"] == tuple(DTYPES)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"method": "allora", "eta_squared": 0}, "above 0"),
        ({"method": "allora", "eta_squared": -0.0}, "above 0"),
        ({"method": "lora", "seed": 2**63}, "at most"),
        ({"method": "lora", "seed": 10**5000}, "at most"),
        ({"method": "lora", "lr": 10**400}, "finite"),
        ({"method": "lora", "weight_decay": float("inf")}, "finite"),
        ({"method": "lora", "r": 99999999999999999999}, "at most"),
        ({"method": "lora", "steps": 10**12}, "at most"),
        ({"method": "lora", "target_modules": []}, "empty"),
        ({"method": "lora", "target_modules": ["query", 3]}, "text"),
        ({"method": "lora", "target_modules": 3}, "text"),
        ({"method": "lora", "model": "a\0b"}, "printed"),
        ({"method": "lora", "dataset": ""}, "printed"),
        ({"method": "lora", "dataset": "x" * 300}, "file"),
        ({"method": "lora", "gradient_accumulation_steps": 0}, "at least 1"),
        ({"method": "lora", "epochs": 3}, "steps"),
    ],
)
def test_a_value_no_run_can_have_is_refused_at_the_border(values, word):
    with pytest.raises(ValueError, match=word) as caught:
        config_from(values)
    assert len(str(caught.value)) < 700


def test_dropout_0_is_not_taken_for_not_given():
    assert RunConfig(method="allora-dropout", lora_dropout=0.0).lora_dropout == 0.0
    assert RunConfig(method="allora-dropout").lora_dropout == 0.05
    assert RunConfig(method="lora", lora_dropout=0.0).run_id == RunConfig(method="lora").run_id


@pytest.mark.parametrize(
    "values",
    [
        {"dataset": 3},
        {"dataset": "mnist", "width": 2.5},
        {"dataset": "mnist", "batches": 128},
        {"dataset": "mnist", "batches": ["x"]},
        {"dataset": "mnist", "seed": 2**63},
        {"dataset": "mnist", "lr": 10**400},
    ],
)
def test_a_setting_of_the_variance_study_with_a_wrong_type_is_named(values):
    name = list(values)[-1]
    with pytest.raises(ValueError, match=name):
        variance_config_from(values)
