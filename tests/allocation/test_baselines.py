"""SoRA's threshold and AdaLoRA's budget, step by step outside the loop."""

import pytest
import torch
from torch import nn

from allora_lab import inject_adapters
from allora_lab.allocation.places import gated_layers, ranks_by_module
from allora_lab.allocation.proximal import ProximalGates
from allora_lab.allocation.settings import AllocationSettings
from allora_lab.allocation.singular_values import SingularValueBudget, budget_at

from .hooked import context_of, encoder
from .tiny import text_batch


def sora(r=2):
    torch.manual_seed(0)
    model = nn.ModuleDict({"query": nn.Linear(4, 4), "value": nn.Linear(4, 4)})
    inject_adapters(model, "sora", r=r)
    with torch.no_grad():
        model["query"].lora_gate.copy_(torch.tensor([0.5, -0.2]))
        model["value"].lora_gate.copy_(torch.tensor([-0.05, 0.1]))
    return model


def test_soras_penalty_and_threshold_by_hand():
    model = sora()
    hook = ProximalGates(context_of(model, steps=9, gate_penalty=8.0, gate_threshold=0.1))
    penalty = hook.penalty()
    assert penalty.item() == pytest.approx(8 * 0.85 / 4)
    penalty.backward()
    assert model["query"].lora_gate.grad.tolist() == [2, -2]
    assert hook.after_step(1) is None
    gates = torch.cat([model[n].lora_gate for n in ("query", "value")]).detach()
    torch.testing.assert_close(gates, torch.tensor([0.4, -0.1, 0.0, 0.0]))
    assert ranks_by_module(gated_layers(model)) == {"query": 2, "value": 2}


def test_sora_cuts_zero_gates_after_the_last_step_and_the_function_stays():
    model = sora()
    context = context_of(model, steps=2, gate_threshold=0.15)
    hook, x = ProximalGates(context), torch.randn(3, 4)
    with torch.no_grad():
        for layer in model.values():
            layer.lora_B.normal_()
    assert hook.after_step(1) is None
    before = [model[n](x).detach() for n in ("query", "value")]
    model["query"].lora_A.grad = torch.ones(2, 4)
    hook.settings = AllocationSettings(first_round=1, round_every=1, gate_threshold=1e-9)
    row = hook.after_step(2)
    assert row == {"allocation": {"step": 2, "ranks": {"query": 2, "value": 0}}}
    for name, y in zip(("query", "value"), before, strict=True):
        torch.testing.assert_close(model[name](x), y, rtol=1e-5, atol=1e-6)
    assert model["value"].lora_gate.shape == (0,)


def test_adaloras_budget_by_hand():
    at = [budget_at(t, start=12, target=4, first=2, last=10) for t in range(13)]
    # 4 + 8 (1 - (t - 2) / 8)³ = 12, 9.36, 7.38, 5.95, 5, 4.42, 4.13, 4.02, 4 from t = 2 on
    assert at == [12, 12, 12, 9, 7, 6, 5, 4, 4, 4, 4, 4, 4]


def adalora(steps=20, r=4, **settings):
    model = encoder("adalora", r=r, target_modules=["query", "value"])
    return model, SingularValueBudget(context_of(model, steps=steps, **settings))


def train_with(model, hook, steps, start=0):
    rows = []
    for done in range(start + 1, steps + 1):
        hook.optimizer.zero_grad()
        (model(**text_batch(seed=done)).loss + hook.penalty()).backward()
        hook.after_backward()
        hook.optimizer.step()
        row = hook.after_step(done)
        if row:
            rows.append(row["allocation"])
    return rows


def test_adaloras_budget_falls_as_scheduled_and_is_then_met_exactly():
    model, hook = adalora(steps=20, rank_budget=5, first_round=2, round_every=2)
    rows = train_with(model, hook, 20)
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10]
    budgets = [budget_at(t, start=16, target=5, first=2, last=10) for t in (2, 4, 6, 8, 10)]
    assert [sum(row["ranks"].values()) for row in rows] == budgets
    assert budgets[-1] == 5
    layers = gated_layers(model)
    assert sum(m.r for m in layers.values()) == 5
    assert all(m.lora_E.shape == (m.r,) for m in layers.values())
    assert rows[-1]["ranks"] == ranks_by_module(layers)
    before = ranks_by_module(layers)
    assert not any(hook.after_step(done) for done in range(11, 21))
    assert ranks_by_module(layers) == before


def test_adalora_zeroes_the_triplets_with_the_lowest_sensitivity():
    model, hook = adalora(steps=40, rank_budget=4, first_round=3, round_every=3)
    train_with(model, hook, 5)
    layers = gated_layers(model)
    hook.optimizer.zero_grad()
    model(**text_batch(seed=6)).loss.backward()
    hook.after_backward()
    flat = sorted(
        (v, n, k)
        for n, row in hook.sensitivity.scores().items()
        for k, v in enumerate(row.tolist())
    )
    hook.after_step(6)
    budget = budget_at(6, start=16, target=4, first=3, last=20)
    zero = {(n, k) for n, m in layers.items() for k in range(m.r) if m.lora_E[k] == 0}
    assert zero == {(n, k) for _, n, k in flat[: 16 - budget]}
    assert {m.r for m in layers.values()} == {4}  # the tensors are whole until the end


def test_adaloras_penalty_by_hand():
    model = nn.ModuleDict({"query": nn.Linear(2, 2)})
    inject_adapters(model, "adalora", r=2)
    hook = SingularValueBudget(context_of(model, orthogonality=0.5, rank_budget=1))
    layer = model["query"]
    with torch.no_grad():
        layer.lora_B.copy_(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))  # PᵀP - I = diag(3, 0)
        layer.lora_A.copy_(torch.tensor([[1.0, 1.0], [0.0, 1.0]]))  # QQᵀ - I = (1, 1; 1, 0)
    assert hook.penalty().item() == pytest.approx(0.5 * (3 + 3**0.5) / 2)
    with torch.no_grad():  # of more ranks than P has rows, the side of the product shows
        layer.resize(torch.tensor([0]), torch.zeros(0, 2))
    assert hook.penalty().item() == pytest.approx(0.5 * (3 + 1) / 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank_budget": 1}, "rank_budget must be at least 2, one rank a block, and at most 16"),
        ({"rank_budget": 0}, "rank_budget must be at least 2.*got 0"),
        ({"rank_budget": 17}, "rank_budget must be.*the ranks adalora starts with, got 17"),
        ({"first_round": 10}, "first_round must be between 1 and 9 for adalora.*got 10"),
        ({"first_round": 0}, "first_round must be between 1 and 9 for adalora.*got 0"),
    ],
)
def test_a_schedule_that_adalora_cannot_keep_is_one_sentence(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        adalora(**settings)
    assert "\n" not in str(caught.value)


def test_adalora_ends_at_half_of_its_ranks_unless_told():
    assert adalora()[1].target == 8


def test_adaloras_zeroed_triplet_may_come_back_before_the_cut():
    model, hook = adalora(steps=40, rank_budget=4, first_round=3, round_every=3)
    train_with(model, hook, 6)
    zero = [(m, k) for m in gated_layers(model).values() for k in range(m.r) if m.lora_E[k] == 0]
    assert zero
    train_with(model, hook, 7, start=6)
    assert all(m.lora_E[k] != 0 for m, k in zero)
