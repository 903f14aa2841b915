"""Scores on the way and the spread of gradients: what they are, and that training does not feel them."""

import pytest
import torch
from torch import nn

from allora_lab import RunConfig, run
from allora_lab.adapters.inject import adapted_layers
from allora_lab.data.batches import batch_at
from allora_lab.training.evaluate import evaluate
from allora_lab.training.gradient_noise import gradient_noise, spread_of

from .test_loop import SPLIT, STEPS, fit, tiny, weights

BATCHES = [batch_at(SPLIT, step=step, batch_size=8, seed=1) for step in range(3)]


def test_scores_come_before_the_first_step_and_after_every_so_many():
    model, optimizer = tiny()
    seen = []

    def score():
        seen.append(model.training)
        return {"accuracy": evaluate(model, SPLIT)["accuracy"], "deep": {"value": len(seen)}}

    trace = fit(model, optimizer, eval_every=2, evaluate=score).trace
    assert trace["evaluations"]["step"] == [0, 2, 4, 6]
    assert trace["evaluations"]["deep"]["value"] == [1, 2, 3, 4]
    assert trace["evaluations"]["accuracy"][-1] == evaluate(model, SPLIT)["accuracy"]


def test_training_does_not_feel_being_watched():
    plain, watched = tiny(), tiny()
    alone = fit(*plain).trace

    def score():
        noise = gradient_noise(watched[0], BATCHES, seed=3)
        return {**evaluate(watched[0], SPLIT), "noise": noise}

    trace = fit(*watched, eval_every=1, evaluate=score).trace
    assert trace["loss"] == alone["loss"]
    for name, value in weights(plain[0]).items():
        torch.testing.assert_close(weights(watched[0])[name], value, rtol=0, atol=0)


def test_a_stop_before_the_first_step_or_later_repeats_no_score(tmp_path):
    path = tmp_path / "c.safetensors"
    values = {"eval_every": 2, "checkpoint": path}
    for at in (0, 3):
        model, optimizer = tiny()
        asked = iter(range(99))
        stop = lambda at=at, asked=asked: next(asked) == at
        score = lambda model=model: evaluate(model, SPLIT)
        fit(model, optimizer, evaluate=score, should_stop=stop, **values)
    model, optimizer = tiny()
    resumed = fit(model, optimizer, evaluate=lambda: evaluate(model, SPLIT), **values)
    whole, second = tiny()
    expected = fit(whole, second, eval_every=2, evaluate=lambda: evaluate(whole, SPLIT))
    assert resumed.done == STEPS
    assert resumed.trace == expected.trace


def test_the_spread_of_two_gradients_by_hand():
    found = spread_of([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 8.0])])
    assert found["signal"] == pytest.approx(29**0.5, rel=1e-4)  # of (2, 5)
    assert found["noise"] == pytest.approx(20**0.5, rel=1e-4)  # variances 2 and 18
    assert found["largest_std"] == pytest.approx(18**0.5, rel=1e-4)


def of_B(model, batch):
    model.zero_grad()
    model(**batch).loss.backward()
    return torch.cat([layer.lora_B.grad.flatten() for layer in adapted_layers(model).values()])


def test_over_batches_it_is_the_spread_of_plain_backward_passes_without_dropout():
    model, optimizer = tiny("lora")
    fit(model, optimizer)
    found = gradient_noise(model, BATCHES, seed=3)["over_batches"]
    model.eval()
    assert found["B"] == spread_of([of_B(model, batch) for batch in BATCHES])


def test_over_masks_it_is_zero_without_dropout_and_falls_with_less_of_it():
    noise = {}
    for dropout in (0.0, 0.05, 0.4):
        model, optimizer = tiny("lora")
        fit(model, optimizer)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        found = gradient_noise(model, [BATCHES[0]] * 40, seed=3)
        noise[dropout] = found["over_masks"]["B"]["noise"]
        assert found["over_batches"]["B"]["noise"] == pytest.approx(0, abs=1e-7)  # one batch
    assert noise[0.0] == pytest.approx(0, abs=1e-7)
    assert 0 < 1.5 * noise[0.05] < noise[0.4]


def test_masks_are_of_the_first_batch_alone_and_drawn_from_the_seed():
    model, optimizer = tiny("lora")
    fit(model, optimizer)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
    several = gradient_noise(model, BATCHES, seed=3)
    first = gradient_noise(model, [BATCHES[0]] * len(BATCHES), seed=3)
    assert several["over_masks"] == first["over_masks"]
    assert several["over_batches"] != first["over_batches"]
    other = gradient_noise(model, BATCHES, seed=4)
    assert other["over_masks"] != several["over_masks"]
    assert other["over_batches"] == several["over_batches"]
    model.eval()  # in which there would be no mask
    assert gradient_noise(model, BATCHES, seed=3) == several
    assert not model.training


def test_at_the_start_only_B_has_a_gradient_and_nothing_of_the_model_changes():
    model, _ = tiny("allora")
    model.train()
    before = weights(model)
    found = gradient_noise(model, BATCHES, seed=3)
    assert found["over_masks"]["A"]["signal"] == 0 < found["over_masks"]["B"]["signal"]
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    for name, value in before.items():
        torch.testing.assert_close(weights(model)[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("frozen", [("lora_A",), ("lora_B",), ("lora_A", "lora_B")])
def test_a_factor_that_a_method_freezes_has_gradient_zero_and_the_other_its_own(frozen):
    model, optimizer = tiny("lora")
    fit(model, optimizer)
    whole = gradient_noise(model, BATCHES, seed=3)["over_batches"]
    for layer in adapted_layers(model).values():
        for name in frozen:
            getattr(layer, name).requires_grad_(False)
    found = gradient_noise(model, BATCHES, seed=3)["over_batches"]
    for part in ("A", "B"):
        is_frozen = f"lora_{part}" in frozen
        assert found[part] == (dict.fromkeys(whole[part], 0.0) if is_frozen else whole[part])


def test_a_run_records_its_scores_and_keeps_them_out_of_its_seconds():
    config = RunConfig(
        method="lora",
        lora_dropout=0.2,
        steps=2,
        train_size=16,
        eval_size=64,
        max_length=16,
        batch_size=4,
        eval_every=1,
        gradient_draws=2,
    )
    record = run(config, device="cpu")
    scores = record.trace["evaluations"]
    assert scores["step"] == [0, 1, 2]
    assert scores["accuracy"][-1] == record.metrics["eval_accuracy"]
    assert len(scores["gradient_noise"]["over_masks"]["B"]["noise"]) == 3
    plain = run(config.with_changes(eval_every=None, gradient_draws=None), device="cpu")
    assert plain.trace["loss"] == record.trace["loss"]
    assert plain.metrics == record.metrics
