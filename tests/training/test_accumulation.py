"""Gradient accumulation: a step over N batches is a step over one batch that holds their rows."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from allora_lab import inject_adapters
from allora_lab.config import RunConfig
from allora_lab.data.answers import IGNORED
from allora_lab.data.batches import collate
from allora_lab.experiments.rank_hooks import allocation_settings
from allora_lab.training.loop import backward

from .test_loop import SPLIT, assert_same, batches, fit, stop_after, tiny, weights


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def none():
    return None


def assert_close(found, wanted):
    assert found.keys() == wanted.keys() != set()
    for name, grad in wanted.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-7)


def test_sentences_in_batches_of_different_size_give_the_gradient_of_one_batch():
    model, optimizer = tiny("lora", lr=0.05)
    model.eval()  # without dropout: the masks of one batch are not those of two
    loss, labels = backward(model, optimizer, [collate(SPLIT, range(8))], none)
    whole = gradients(model)
    parts = [collate(SPLIT, range(5)), collate(SPLIT, range(5, 8))]
    found, counted = backward(model, optimizer, parts, none)
    assert counted == labels == 8
    torch.testing.assert_close(found, loss)
    assert_close(gradients(model), whole)


def test_answers_are_weighted_by_their_labelled_tokens():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    config = LlamaConfig(vocab_size=40, num_attention_heads=2, num_key_value_heads=2, **sizes)
    model = inject_adapters(LlamaForCausalLM(config), "lora", r=2, target_modules="all-linear")
    for name, parameter in model.named_parameters():
        if name.endswith("lora_B"):
            parameter.data.normal_()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad])
    ids = torch.randint(0, 40, (4, 9))
    labels = ids.clone()
    labels[0, :7], labels[1, :1], labels[2, :5] = IGNORED, IGNORED, IGNORED
    batch = {"input_ids": ids, "labels": labels}
    loss, count = backward(model, optimizer, [batch], none)
    whole = gradients(model)
    rows = [{key: value[[i]] for key, value in batch.items()} for i in range(4)]
    found, counted = backward(model, optimizer, rows, none)
    assert counted == count == 2 + 8 + 4 + 8
    torch.testing.assert_close(found, loss)
    assert_close(gradients(model), whole)


def test_one_batch_is_the_plain_step_to_the_bit():
    model, optimizer = tiny("allora")
    twin, _ = tiny("allora")
    batch = batches(step=0)
    torch.manual_seed(3)
    loss, _ = backward(model, optimizer, [batch], none)
    torch.manual_seed(3)
    plain = twin(**batch).loss
    plain.backward()
    assert torch.equal(loss, plain)
    wanted, found = gradients(twin), gradients(model)
    assert all(torch.equal(found[name], grad) for name, grad in wanted.items())


def test_the_penalty_is_added_once():
    model, optimizer = tiny("lora")
    model.eval()
    penalty = {"times": 0}

    def squares():
        penalty["times"] += 1
        return sum((p**2).sum() for n, p in model.named_parameters() if n.endswith("lora_A"))

    halves = [collate(SPLIT, range(4)), collate(SPLIT, range(4, 8))]
    found, _ = backward(model, optimizer, halves, squares)
    once = gradients(model)
    loss, _ = backward(model, optimizer, [collate(SPLIT, range(8))], squares)
    assert penalty["times"] == 2
    torch.testing.assert_close(found, loss)  # which the penalty is not part of
    assert_close(once, gradients(model))


def test_every_row_is_seen_once_before_any_is_seen_twice():
    seen = []

    def at(number):
        seen.append(number)
        return batches(step=number)

    fit(*tiny(), batch_at=at, steps=3, accumulate=2)
    assert seen == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("method", ["allora", "allora-update"])
def test_an_accumulating_run_resumes_to_the_same_bits(method, tmp_path):
    whole, optimizer = tiny(method)
    wanted = fit(whole, optimizer, accumulate=3)
    path = tmp_path / "half.safetensors"
    fit(*tiny(method), accumulate=3, checkpoint=path, should_stop=stop_after(2))
    again, optimizer = tiny(method)
    found = fit(again, optimizer, accumulate=3, checkpoint=path)
    assert found.trace == wanted.trace
    assert_same(again, whole)
    assert any(p.any() for n, p in weights(again).items() if n.endswith("lora_B"))


def test_an_epoch_is_counted_in_steps():
    plain = RunConfig(method="alora-random", batch_size=4, steps=900)
    grouped = plain.with_changes(gradient_accumulation_steps=8)
    assert allocation_settings(plain, 3200).first_round == 800
    assert allocation_settings(grouped, 3200).first_round == 100


def test_a_short_run_of_adalora_is_given_a_first_round_that_fits():
    short = RunConfig(method="adalora", steps=24)
    assert allocation_settings(short, 4096).first_round == 11
    assert allocation_settings(short, 4096).round_every == 2
    long = RunConfig(method="adalora", steps=2048)
    assert allocation_settings(long, 4096).first_round == 256
    assert allocation_settings(long, 4096).round_every == 64
    named = short.with_changes(first_round=300)
    assert allocation_settings(named, 4096).first_round == 300
