"""Trace, evaluation, schedules and parameter groups, each against a direct computation."""

import json

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from allora_lab import inject_adapters
from allora_lab.adapters.inject import adapted_layers
from allora_lab.data.batches import EncodedSplit
from allora_lab.training.evaluate import evaluate
from allora_lab.training.optimizers import OPTIMIZERS, build_optimizer, rate_factor
from allora_lab.training.trace import append_row, measure


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        num_labels=3,
    )
    model = inject_adapters(BertForSequenceClassification(config), "allora", r=2)
    with torch.no_grad():
        for layer in adapted_layers(model).values():
            layer.lora_B.normal_()
    return model


def test_measured_norms_are_those_of_BA_formed(model):
    measured = measure(model)
    rows = torch.cat(
        [(m.lora_B @ m.lora_A).norm(dim=1).detach() for m in adapted_layers(model).values()]
    )
    assert measured["row_norm_mean"] == pytest.approx(rows.mean().item(), rel=1e-4)
    assert measured["row_norm_quantiles"] == pytest.approx(
        [rows.quantile(q).item() for q in (0.1, 0.5, 0.9)], rel=1e-4
    )
    for name, layer in adapted_layers(model).items():
        row = measured["layers"][name]
        assert row["norm_A"] == pytest.approx(layer.lora_A.norm().item(), rel=1e-4)
        assert row["norm_B"] == pytest.approx(layer.lora_B.norm().item(), rel=1e-4)
        assert row["grad_norm_A"] is None


def test_measured_gradients_are_the_last_ones(model):
    layer = next(iter(adapted_layers(model).values()))
    layer.lora_A.grad = torch.full_like(layer.lora_A, 2.0)
    expected = 2.0 * layer.lora_A.numel() ** 0.5
    first = next(iter(measure(model)["layers"].values()))
    assert first["grad_norm_A"] == pytest.approx(expected, rel=1e-4)


def test_a_trace_is_lists_of_equal_length_that_json_keeps(model):
    trace = append_row(append_row({}, {"step": 0, **measure(model)}), {"step": 4, **measure(model)})
    assert trace["step"] == [0, 4]
    assert len(trace["row_norm_mean"]) == 2
    assert all(len(v) == 2 for layer in trace["layers"].values() for v in layer.values())
    assert json.loads(json.dumps(trace)) == trace


def test_accuracy_and_loss_are_those_of_one_sentence_at_a_time(model):
    generator = torch.Generator().manual_seed(0)
    lengths = [3, 9, 5, 12, 4, 7, 7]
    ids = [torch.randint(3, 50, (n,), generator=generator) for n in lengths]
    labels = (0, 1, 2, 0, 1, 2, 0)
    split = EncodedSplit(tuple(tuple(i.tolist()) for i in ids), labels, pad_token_id=0)
    model.train()
    result = evaluate(model, split, batch_size=3)
    assert model.training
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(input_ids=i[None]).logits for i in ids])
    target = torch.tensor(labels)
    right = (logits.argmax(1) == target).float().mean().item()
    assert result["accuracy"] == pytest.approx(right)
    loss = nn.functional.cross_entropy(logits, target).item()
    assert result["loss"] == pytest.approx(loss, rel=1e-5)


def test_schedules_by_hand():
    def factors(schedule):
        return [rate_factor(s, steps=6, warmup_steps=2, schedule=schedule) for s in range(6)]

    assert factors("constant") == [0.5, 1, 1, 1, 1, 1]
    assert factors("linear") == [0.5, 1, 1, 0.75, 0.5, 0.25]
    assert factors("cosine") == pytest.approx([0.5, 1, 1, 0.8535534, 0.5, 0.1464466])


@pytest.mark.parametrize("key", OPTIMIZERS)
def test_the_head_has_a_rate_of_its_own(key, model):
    optimizer = build_optimizer(key, model, lr=0.5, head_lr=0.25, weight_decay=0.0)
    groups = {g["initial_lr"]: {id(p) for p in g["params"]} for g in optimizer.param_groups}
    head = {id(p) for p in model.classifier.parameters()}
    everything = {id(p) for p in model.parameters() if p.requires_grad}
    assert groups == {0.5: everything - head, 0.25: head}


@pytest.mark.parametrize("key", OPTIMIZERS)
def test_whether_an_optimizer_cancels_a_scale_is_as_the_table_says(key):
    steps = []
    for scale in (1.0, 3.0):
        model = nn.ModuleDict({"query": nn.Linear(4, 4)})
        inject_adapters(model, "lora", r=2, generator=torch.Generator().manual_seed(0))
        optimizer = build_optimizer(key, model, lr=0.1, head_lr=0.1, weight_decay=0.0)
        B = model["query"].lora_B
        generator = torch.Generator().manual_seed(1)
        for parameter in (model["query"].lora_A, B):
            parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
        optimizer.step()
        steps.append(B.norm().item())
    expected = 1.0 if OPTIMIZERS[key].is_scale_free else 3.0
    assert steps[1] / steps[0] == pytest.approx(expected, rel=1e-3)
