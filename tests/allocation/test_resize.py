"""Ranks that leave and come under an optimizer: the others never notice."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from allora_lab import inject_adapters
from allora_lab.allocation.places import gated_layers, ranks_by_module
from allora_lab.allocation.resize import resize_ranks, set_ranks
from allora_lab.training.optimizers import OPTIMIZERS, build_optimizer

from .tiny import adapted, text_batch

METHODS = ("alora-ablation", "alora-dnas", "sora", "adalora")
D_IN, D_OUT = 6, 5


def one(method, r, optimizer="adamw"):
    torch.manual_seed(0)
    model = nn.ModuleDict({"query": nn.Linear(D_IN, D_OUT)})
    inject_adapters(model, method, r=r)
    built = build_optimizer(optimizer, model, lr=0.1, head_lr=0.1, weight_decay=0.01)
    return model, model["query"], built


def gradient_of(layer, name, ranks, step):
    """Return a gradient that each rank has of its own, whichever others there are."""
    axis, parameter = layer.RANK_AXIS[name], getattr(layer, name)
    rows = []
    for rank in ranks:
        generator = torch.Generator().manual_seed(1000 * step + 10 * rank + len(name))
        rest = [s for i, s in enumerate(parameter.shape) if i != axis]
        rows.append(torch.randn(rest, generator=generator))
    return torch.stack(rows, dim=axis)


def make_step(layer, optimizer, ranks, step):
    optimizer.zero_grad()
    for name in layer.RANK_AXIS:
        getattr(layer, name).grad = gradient_of(layer, name, ranks, step)
    optimizer.step()
    optimizer.zero_grad()


def take(layer, source, places):
    """Write ranks `places` of one layer into another that has just these."""
    with torch.no_grad():
        for name, axis in layer.RANK_AXIS.items():
            rows = getattr(source, name).index_select(axis, torch.tensor(places))
            getattr(layer, name).copy_(rows)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_ranks_that_stay_step_as_if_the_others_had_never_been(method, kind):
    model, layer, optimizer = one(method, 5, kind)
    _, twin, twin_optimizer = one(method, 2, kind)
    take(twin, layer, [1, 3])
    for step in range(4):
        make_step(layer, optimizer, range(5), step)
        make_step(twin, twin_optimizer, [1, 3], step)
    resize_ranks(gated_layers(model), {"query": [1, 3]}, {"query": 0}, optimizers=[optimizer])
    for step in range(4, 8):
        make_step(layer, optimizer, [1, 3], step)
        make_step(twin, twin_optimizer, [1, 3], step)
    for name in layer.RANK_AXIS:
        assert torch.equal(getattr(layer, name), getattr(twin, name)), name
        state = optimizer.state[getattr(layer, name)]
        twin_state = twin_optimizer.state[getattr(twin, name)]
        assert state.keys() == twin_state.keys()
        assert all(
            torch.equal(torch.as_tensor(state[k]), torch.as_tensor(twin_state[k])) for k in state
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_new_ranks_do_not_disturb_how_the_others_step(method, kind):
    model, layer, optimizer = one(method, 3, kind)
    _, twin, twin_optimizer = one(method, 3, kind)
    for step in range(3):
        make_step(layer, optimizer, [0, 1, 2], step)
        make_step(twin, twin_optimizer, [0, 1, 2], step)
    resize_ranks(gated_layers(model), {"query": [0, 2]}, {"query": 2}, optimizers=[optimizer])
    for step in range(3, 6):
        make_step(layer, optimizer, [0, 2, 7, 8], step)
        make_step(twin, twin_optimizer, [0, 1, 2], step)
    for name, axis in layer.RANK_AXIS.items():
        stayed = getattr(layer, name).index_select(axis, torch.tensor([0, 1]))
        assert torch.equal(stayed, getattr(twin, name).index_select(axis, torch.tensor([0, 2])))


# which axis of each state tensor counts the ranks
FULL = {
    "adamw": {"lora_A": {"exp_avg": 0, "exp_avg_sq": 0}, "lora_B": {"exp_avg": 1, "exp_avg_sq": 1}},
    "sgd": {"lora_A": {"momentum_buffer": 0}, "lora_B": {"momentum_buffer": 1}},
    "adafactor": {"lora_A": {"exp_avg_sq_row": 0}, "lora_B": {"exp_avg_sq_col": 0}},
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_state_of_the_ranks_that_stay_is_the_same_to_the_bit_and_new_entries_are_as_said(kind):
    model, layer, optimizer = one("alora-ablation", 4, kind)
    for step in range(3):
        make_step(layer, optimizer, range(4), step)
    before = {n: copy.deepcopy(optimizer.state[getattr(layer, n)]) for n in layer.RANK_AXIS}
    resize_ranks(gated_layers(model), {"query": [0, 3]}, {"query": 3}, optimizers=[optimizer])
    for name, axes in FULL[kind].items():
        old, new = before[name], optimizer.state[getattr(layer, name)]
        assert old.keys() == new.keys()
        for key, value in new.items():
            if key not in axes:  # the count of steps, and what Adafactor keeps of the other axis
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(old[key])), key
                continue
            axis = axes[key]
            kept = old[key].index_select(axis, torch.tensor([0, 3]))
            assert torch.equal(value.narrow(axis, 0, 2), kept)
            added = value.narrow(axis, 2, 3)
            expected = kept.mean(dim=axis, keepdim=True) if "_sq" in key else 0.0
            torch.testing.assert_close(added, torch.zeros_like(added) + expected, rtol=0, atol=0)
    assert optimizer.param_groups[0]["params"] == [layer.lora_A, layer.lora_B]


def test_the_state_of_an_optimizer_with_amsgrad_follows_too():
    model, layer, _ = one("alora-ablation", 4)
    optimizer = AdamW(layer.parameters(), lr=0.1, amsgrad=True)
    for step in range(3):
        make_step(layer, optimizer, range(4), step)
    old = optimizer.state[layer.lora_B]["max_exp_avg_sq"].clone()
    resize_ranks(gated_layers(model), {"query": [2]}, {"query": 1}, optimizers=[optimizer])
    new = optimizer.state[layer.lora_B]["max_exp_avg_sq"]
    assert torch.equal(new, old[:, [2, 2]])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_module_without_ranks_steps_and_comes_back_as_a_new_tensor_would(method, kind):
    model, layer, optimizer = one(method, 2, kind)
    make_step(layer, optimizer, [0, 1], 0)
    resize_ranks(gated_layers(model), {"query": []}, {"query": 0}, optimizers=[optimizer])
    for _ in range(2):
        optimizer.zero_grad()
        layer(torch.ones(3, D_IN)).sum().backward()
        optimizer.step()
    optimizer.zero_grad()
    resize_ranks(gated_layers(model), {"query": []}, {"query": 2}, optimizers=[optimizer])
    assert not any(getattr(layer, name) in optimizer.state for name in layer.RANK_AXIS)
    _, fresh, fresh_optimizer = one(method, 2, kind)
    take(fresh, layer, [0, 1])
    for step in (1, 2):
        make_step(layer, optimizer, [0, 1], step)
        make_step(fresh, fresh_optimizer, [0, 1], step)
    for name in layer.RANK_AXIS:
        assert torch.equal(getattr(layer, name), getattr(fresh, name))


def test_new_rows_are_drawn_as_loras_and_from_the_generator_alone():
    drawn = []
    for before in ([0, 1, 2], [1]):
        torch.manual_seed(len(before))
        model, layer, _ = one("alora-ablation", 3)
        generator = torch.Generator().manual_seed(5)
        resize_ranks(gated_layers(model), {"query": before}, {"query": 2}, generator=generator)
        drawn.append(layer.lora_A[-2:].detach())
        assert torch.equal(layer.lora_B[:, -2:], torch.zeros(D_OUT, 2))
    assert torch.equal(*drawn)
    model = nn.ModuleDict({"query": nn.Linear(400, 300)})
    inject_adapters(model, "alora-ablation", r=1)
    generator = torch.Generator().manual_seed(5)
    resize_ranks(gated_layers(model), {"query": []}, {"query": 200}, generator=generator)
    A = model["query"].lora_A
    assert A.abs().max() <= 400**-0.5
    assert A.std().item() == pytest.approx(400**-0.5 / 3**0.5, rel=0.02)
    assert abs(A.mean().item()) < 1e-3


def test_a_resized_model_computes_what_it_did_and_holds_what_it_says():
    model, batch = adapted("bert", r=3), text_batch()
    layers = gated_layers(model)
    with torch.no_grad():
        before = model(**batch).logits
        resize_ranks(
            layers, {n: range(3) for n in layers}, {n: i % 4 for i, n in enumerate(layers)}
        )
        torch.testing.assert_close(model(**batch).logits, before, rtol=1e-5, atol=1e-6)
    assert ranks_by_module(layers) == {n: 3 + i % 4 for i, n in enumerate(layers)}
    for layer in layers.values():
        for name in ("lora_A", "lora_B"):
            parameter = getattr(layer, name)
            assert parameter.untyped_storage().nbytes() == 4 * parameter.numel()
    trainable = sum(p.numel() for m in layers.values() for p in m.parameters() if p.requires_grad)
    assert trainable == sum(m.r * sum(m.base_layer.weight.shape) for m in layers.values())


def test_gradients_that_wait_for_a_step_are_refused_and_nothing_has_changed():
    model = adapted("bert", r=2)
    layers = gated_layers(model)
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad])
    last = list(layers)[-1]
    layers[last].lora_B.grad = torch.zeros_like(layers[last].lora_B)
    held = {n: id(p) for n, p in model.named_parameters()}
    with pytest.raises(ValueError, match=f"gradients are waiting in {last}: a resize") as caught:
        resize_ranks(
            layers, {n: [0] for n in layers}, dict.fromkeys(layers, 1), optimizers=[optimizer]
        )
    assert "\n" not in str(caught.value)
    assert {n: id(p) for n, p in model.named_parameters()} == held
    assert set(ranks_by_module(layers).values()) == {2}


def test_a_layer_that_stays_as_it_is_keeps_its_very_tensors():
    model = adapted("bert", r=2)
    layers = gated_layers(model)
    first = next(iter(layers))
    held = {n: id(m.lora_A) for n, m in layers.items()}
    resize_ranks(
        layers, {n: [0] if n == first else [0, 1] for n in layers}, dict.fromkeys(layers, 0)
    )
    assert {n for n, m in layers.items() if id(m.lora_A) != held[n]} == {first}


def test_ranks_asked_for_in_another_order_are_reordered():
    model, layer, optimizer = one("alora-ablation", 3)
    make_step(layer, optimizer, range(3), 0)
    A, first = layer.lora_A.detach().clone(), optimizer.state[layer.lora_A]["exp_avg"].clone()
    resize_ranks(gated_layers(model), {"query": [2, 0, 1]}, {"query": 0}, optimizers=[optimizer])
    assert torch.equal(layer.lora_A, A[[2, 0, 1]])
    assert torch.equal(optimizer.state[layer.lora_A]["exp_avg"], first[[2, 0, 1]])


def test_every_optimizer_that_holds_a_tensor_is_told():
    model, layer, optimizer = one("alora-dnas", 3)
    own = SGD([layer.lora_gate_logit], lr=0.1, momentum=0.9)
    layer.lora_gate_logit.grad = torch.tensor([1.0, 2.0, 3.0])
    own.step()
    own.zero_grad()
    resize_ranks(gated_layers(model), {"query": [2]}, {"query": 1}, optimizers=[optimizer, own])
    assert own.param_groups[0]["params"][0] is layer.lora_gate_logit
    assert own.state[layer.lora_gate_logit]["momentum_buffer"].tolist() == [3, 0]
    assert any(p is layer.lora_gate_logit for p in optimizer.param_groups[0]["params"])


def test_groups_keep_their_settings_and_order():
    model, layer, _ = one("alora-ablation", 3)
    optimizer = AdamW(
        [{"params": [layer.lora_B], "lr": 0.5}, {"params": [layer.lora_A], "lr": 0.25}]
    )
    resize_ranks(gated_layers(model), {"query": [2]}, {"query": 1}, optimizers=[optimizer])
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.25]
    assert optimizer.param_groups[0]["params"][0] is layer.lora_B
    assert optimizer.param_groups[1]["params"][0] is layer.lora_A


def test_ranks_are_set_by_keeping_the_first_and_drawing_the_rest_from_the_seed():
    starts = []
    for _ in range(2):
        model, layer, _ = one("alora-ablation", 3)
        A = layer.lora_A.detach().clone()
        set_ranks(gated_layers(model), {"query": 2})
        assert torch.equal(layer.lora_A, A[:2])
        set_ranks(gated_layers(model), {"query": 5}, seed=3)
        assert torch.equal(layer.lora_A[:2], A[:2])
        starts.append(layer.lora_A.detach())
    assert torch.equal(*starts)
