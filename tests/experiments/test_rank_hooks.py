"""What a run's configuration and data make of a method's own part; the runs are short, of MiniLM."""

from dataclasses import replace

import pytest
import torch

from allora_lab import RunConfig, run
from allora_lab.data.batches import batch_at, encode, halves
from allora_lab.data.splits import Split
from allora_lab.data.text import load_text
from allora_lab.experiments import rank_hooks
from allora_lab.experiments.rank_hooks import allocation_settings, build_hook, score_split
from allora_lab.experiments.runner import build_adapted, build_run_optimizer
from allora_lab.methods import METHODS

SHORT = {"steps": 3, "eval_size": 16, "train_size": 64, "max_length": 24, "lora_dropout": 0.1}
ROUNDS = {"first_round": 1, "round_every": 1, "ranks_moved": 5}


@pytest.fixture(scope="module")
def dataset():
    return load_text("rotten_tomatoes_rated")


@pytest.fixture(scope="module")
def loaded():
    return build_adapted(RunConfig(method="alora-ablation"), 2)


def hook_of(config, dataset, loaded=None, rows=64):
    loaded = loaded or build_adapted(config, 2)
    data = encode(loaded.tokenizer, dataset.train.first(rows), config.max_length)
    data, other = halves(data) if METHODS[config.method].splits_train else (data, None)
    optimizer = build_run_optimizer(config, loaded.model)
    return build_hook(config, loaded, dataset, optimizer, data, other), loaded, other


def test_K1_is_an_epoch_and_K2_a_quarter_of_one_unless_told():
    config = RunConfig(method="alora-ablation", batch_size=16)
    settings = allocation_settings(config, 4096)
    assert (settings.first_round, settings.round_every) == (256, 64)
    assert (settings.rounds, settings.ranks_moved, settings.rank_budget) == (8, None, None)
    assert allocation_settings(config, 5).first_round == 1
    assert allocation_settings(config, 20).round_every == 1
    told = config.with_changes(first_round=7, round_every=3, rounds=2, ranks_moved=5, rank_budget=9)
    settings = allocation_settings(told, 4096)
    assert (settings.first_round, settings.round_every) == (7, 3)
    assert (settings.rounds, settings.ranks_moved, settings.rank_budget) == (2, 5, 9)


def test_the_gates_of_dnas_have_the_adapters_rate_unless_told():
    config = RunConfig(method="alora-dnas", lr=0.02)
    assert allocation_settings(config, 64).gate_lr == 0.02
    assert allocation_settings(config.with_changes(gate_lr=0.5), 64).gate_lr == 0.5


def test_every_setting_a_run_names_reaches_the_hook():
    sora = RunConfig(method="sora", gate_penalty=2.0, gate_threshold=0.5)
    settings = allocation_settings(sora, 64)
    assert (settings.gate_penalty, settings.gate_threshold) == (2.0, 0.5)
    assert allocation_settings(RunConfig(method="sora"), 64).gate_penalty == 10.0
    assert allocation_settings(RunConfig(method="sora"), 64).gate_threshold == 3e-4
    adalora = RunConfig(method="adalora", orthogonality=0.7)
    assert allocation_settings(adalora, 64).orthogonality == 0.7


def test_ranks_are_scored_on_the_last_dev_sentences_which_evaluation_does_not_read(dataset, loaded):
    config = RunConfig(method="alora-ablation", eval_size=16)
    split = score_split(config, loaded, dataset)
    assert len(split) == rank_hooks.SCORE_SIZE == 32
    assert split.labels == dataset.dev.labels[-32:]
    assert split.token_ids == encode(loaded.tokenizer, dataset.dev, 128).token_ids[-32:]
    assert len(score_split(config.with_changes(score_size=7), loaded, dataset)) == 7
    assert not set(dataset.dev.last(32).texts) & set(dataset.dev.first(16).texts)
    few = replace(dataset, dev=dataset.dev.first(5))
    assert score_split(config, loaded, few).labels == dataset.dev.labels[:5]


def test_the_batch_that_scores_is_whole_and_of_that_split(dataset, loaded):
    hook, *_ = hook_of(RunConfig(method="alora-ablation", score_size=9), dataset, loaded)
    assert hook.score.batch["labels"].tolist() == list(dataset.dev.labels[-9:])
    assert hook.score.model is loaded.model


def test_an_empty_dev_split_is_one_sentence_and_only_for_the_method_that_needs_it(dataset, loaded):
    without = replace(dataset, dev=Split((), ()))
    with pytest.raises(ValueError, match="rotten_tomatoes_rated has none: choose") as caught:
        hook_of(RunConfig(method="alora-ablation"), without, loaded)
    assert "\n" not in str(caught.value)
    assert hook_of(RunConfig(method="alora-random"), without, loaded)[0]


def test_the_second_half_is_what_the_gates_learn_from(dataset):
    config = RunConfig(method="alora-dnas", batch_size=8, seed=3)
    hook, loaded, other = hook_of(config, dataset)
    assert other.labels == dataset.train.labels[32:64]
    expected = batch_at(other, step=4, batch_size=8, seed=3)
    found = hook.score.context.other_batch_at(4)
    assert all(torch.equal(found[k], expected[k]) for k in expected)
    assert allocation_settings(config, 64).first_round == hook.settings.first_round == 8
    names = {n for n, _ in loaded.model.named_parameters() if n.endswith("lora_gate_logit")}
    held = {id(p) for group in hook.optimizer.param_groups for p in group["params"]}
    assert len(names) == 12
    assert not held & {id(loaded.model.get_parameter(n)) for n in names}


def test_a_method_without_a_part_of_its_own_has_no_hook(dataset, loaded):
    assert hook_of(RunConfig(method="lora"), dataset, loaded)[0] is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank_budget": 5}, "rank_budget must be at least 6, one rank a block, and at most 4608"),
        ({"rank_budget": 4609}, "at most 4608, what these layers can hold, got 4609"),
        ({"ranks_moved": 97}, "ranks_moved must be at least 1 and at most 96.*got 97"),
    ],
)
def test_a_run_that_cannot_be_is_one_sentence_before_anything_is_written(
    settings, message, tmp_path
):
    config = RunConfig(method="alora-random", **SHORT, **settings)
    with pytest.raises(ValueError, match=message) as caught:
        run(config, device="cpu", checkpoint=tmp_path / "run.safetensors")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def without_clock(record):
    return replace(
        record, train_seconds=0, finished_at="", peak_memory_bytes=0, tokens_per_second=0
    )


@pytest.mark.parametrize("method", ["alora-ablation", "alora-dnas"])
def test_a_run_moves_ranks_records_it_and_resumes_to_the_same_record(method, tmp_path):
    few = {"score_size": 4} if "score_size" in METHODS[method].hook_settings else {}
    config = RunConfig(method=method, r=2, clip_norm=1.0, **SHORT, **ROUNDS, **few)
    record = run(config, device="cpu")
    trace = record.trace["allocation"]
    assert trace["step"] == [1, 2]
    assert len(trace["ranks"]) == 12
    for i in (0, 1):
        assert sum(ranks[i] for ranks in trace["ranks"].values()) == 24
    assert any(ranks[-1] != 2 for ranks in trace["ranks"].values())
    path, asked = tmp_path / "run.safetensors", iter(range(9))
    assert run(config, device="cpu", checkpoint=path, should_stop=lambda: next(asked) == 2) is None
    assert without_clock(run(config, device="cpu", checkpoint=path)) == without_clock(record)


def test_parameters_are_counted_after_the_last_rank_has_left():
    config = RunConfig(method="sora", r=2, gate_threshold=1e6, **SHORT)
    record = run(config, device="cpu")
    assert set(record.trace["allocation"]["ranks"][next(iter(record.trace["layers"]))]) == {0}
    assert record.trainable_parameters == 2 * 384 + 2
