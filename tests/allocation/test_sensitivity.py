"""AdaLoRA's smoothed sensitivity against a few lines of numpy that follow its equations."""

import numpy as np
import pytest
import torch
from torch import nn

from allora_lab import inject_adapters
from allora_lab.allocation.places import gated_layers
from allora_lab.allocation.resize import resize_ranks
from allora_lab.allocation.sensitivity import Sensitivity, sensitivities

D_IN, D_OUT, R = 6, 5, 3
GATE = {"alora-dnas": "lora_gate_logit", "sora": "lora_gate", "adalora": "lora_E"}


def layer_of(method, seed=0):
    torch.manual_seed(seed)
    model = nn.ModuleDict({"query": nn.Linear(D_IN, D_OUT).double()})
    inject_adapters(model, method, r=R)
    layer = model["query"]
    with torch.no_grad():
        for name in layer.RANK_AXIS:
            getattr(layer, name).normal_(generator=torch.Generator().manual_seed(len(name)))
    return model, layer


def backward(layer, step):
    layer.zero_grad()
    x = torch.randn(4, D_IN, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    layer(x).square().sum().backward()


def smoothed(history):
    """Return s after a history of (w, gradient), equations 8 to 11 with both betas 0.85."""
    mean = spread = 0.0
    for w, gradient in history:
        now = np.abs(w * gradient)
        mean = 0.85 * mean + 0.15 * now
        spread = 0.85 * spread + 0.15 * np.abs(now - mean)
    return mean * spread


@pytest.mark.parametrize("method", ["alora-sensitivity", *GATE])
def test_scores_are_those_of_the_equations(method):
    model, layer = layer_of(method)
    sensitivity, history = Sensitivity(gated_layers(model)), {}
    for step in range(4):
        backward(layer, step)
        sensitivity.update()
        A, B = layer.lora_A, layer.lora_B
        pairs = {"A": (A, A.grad), "B": (B, B.grad)}
        if method in GATE:
            gate = getattr(layer, GATE[method])
            pairs["gate"] = (gate, gate.grad)
        else:  # g = 1 and g ∂L/∂g = <B_k, ∂L/∂B_k>, which is proved below
            pairs["gate"] = (torch.ones(R), (B * B.grad).sum(dim=0))
        for name, (w, gradient) in pairs.items():
            history.setdefault(name, []).append(
                (w.detach().clone().numpy(), gradient.detach().clone().numpy())
            )
        with torch.no_grad():  # the weights move between steps, as in training
            for name in layer.RANK_AXIS:
                getattr(layer, name).sub_(0.01 * getattr(layer, name).grad)
    expected = (
        smoothed(history["gate"])
        + smoothed(history["A"]).mean(axis=1)
        + smoothed(history["B"]).mean(axis=0)
    )
    found = sensitivity.scores()["query"]
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_a_frozen_gates_sensitivity_is_that_of_a_gate_one_can_differentiate():
    model, layer = layer_of("alora-sensitivity")
    backward(layer, 0)
    found = sensitivities(layer)["gate"]
    gate = torch.ones(R, dtype=torch.float64, requires_grad=True)
    x = torch.randn(4, D_IN, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    update = (x @ layer.lora_A.T * gate) @ layer.lora_B.T
    (layer.base_layer(x) + layer.scaling * update).square().sum().backward()
    torch.testing.assert_close(found, (gate * gate.grad).abs().detach(), rtol=1e-12, atol=0)
    assert model["query"] is layer


def test_a_trained_gate_has_its_own_sensitivity_and_no_second_one():
    _, layer = layer_of("sora")
    backward(layer, 0)
    assert sensitivities(layer).keys() == {"lora_A", "lora_B", "lora_gate"}


def test_without_a_gradient_nothing_is_learned_and_every_score_is_zero():
    model, layer = layer_of("alora-sensitivity")
    sensitivity = Sensitivity(gated_layers(model))
    sensitivity.update()
    assert sensitivity.scores()["query"].tolist() == [0, 0, 0]
    assert sensitivity.state() == {}
    backward(layer, 0)
    layer.lora_A.grad = None
    assert sensitivities(layer) == {}


def test_averages_stay_with_their_ranks_when_others_leave_and_come():
    model, layer = layer_of("alora-sensitivity")
    layers = gated_layers(model)
    sensitivity = Sensitivity(layers)
    for step in range(3):
        backward(layer, step)
        sensitivity.update()
    before = sensitivity.scores()["query"]
    layer.zero_grad()
    resize_ranks(layers, {"query": [0, 2]}, {"query": 2})
    sensitivity.resized({"query": [0, 2]}, {"query": 2})
    after = sensitivity.scores()["query"]
    assert after.tolist() == [*before[[0, 2]].tolist(), 0, 0]
    backward(layer, 4)
    sensitivity.update()
    assert sensitivity.scores()["query"].shape == (4,)


def test_a_module_emptied_and_refilled_starts_from_zero():
    model, layer = layer_of("alora-sensitivity")
    layers = gated_layers(model)
    sensitivity = Sensitivity(layers)
    backward(layer, 0)
    sensitivity.update()
    layer.zero_grad()
    for keep, added in (([], 0), ([], 2)):
        resize_ranks(layers, {"query": keep}, {"query": added})
        sensitivity.resized({"query": keep}, {"query": added})
        assert sensitivity.scores()["query"].tolist() == [0] * added
        backward(layer, 1)
        sensitivity.update()
        layer.zero_grad()
    fresh = Sensitivity(layers)
    backward(layer, 1)
    fresh.update()
    torch.testing.assert_close(sensitivity.scores()["query"], fresh.scores()["query"])


def test_state_is_given_back_as_it_was():
    model, layer = layer_of("adalora")
    sensitivity, twin = (Sensitivity(gated_layers(model)) for _ in range(2))
    for step in range(2):
        backward(layer, step)
        sensitivity.update()
    twin.restore({"unrelated": torch.ones(1), **sensitivity.state()})
    backward(layer, 2)
    for one in (sensitivity, twin):
        one.update()
    assert torch.equal(sensitivity.scores()["query"], twin.scores()["query"])
    assert sensitivity.state().keys() == twin.state().keys()
