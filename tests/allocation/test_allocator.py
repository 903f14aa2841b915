"""Algorithm 1 with any score, SoRA's threshold and AdaLoRA's budget, step by step outside the loop."""

import types

import pytest
import torch
from torch import nn

from allora_lab import inject_adapters
from allora_lab.allocation.allocator import Allocator
from allora_lab.allocation.importance import plain_scores
from allora_lab.allocation.places import gated_layers, ranks_by_module
from allora_lab.allocation.proximal import ProximalGates
from allora_lab.allocation.scores import (
    AblationScore,
    MagnitudeScore,
    RandomScore,
    RankScore,
    RelaxedGateScore,
)
from allora_lab.allocation.settings import AllocationSettings, HookContext
from allora_lab.allocation.singular_values import SingularValueBudget, budget_at
from allora_lab.training.optimizers import build_optimizer

from .tiny import adapted, text_batch


def encoder(method="alora-ablation", **changes):
    """Return the tiny BERT with its twelve modules in blocks adapted, and not the pooler."""
    targets = r".*layer\.\d\..*(query|key|value|dense)"
    return adapted("bert", method, **{"target_modules": targets, **changes})


def context_of(model, steps=100, seed=3, without=(), **settings):
    optimizer = build_optimizer(
        "adamw", model, lr=0.01, head_lr=0.01, weight_decay=0.0, without=without
    )
    return HookContext(
        model=model,
        optimizer=optimizer,
        settings=AllocationSettings(**{"first_round": 4, "round_every": 2, **settings}),
        steps=steps,
        seed=seed,
        score_batch=text_batch(),
        other_batch_at=lambda step: text_batch(seed=100 + step),
    )


class Told(RankScore):
    """Gives each rank the score it is told, by a function of the layer's name and the place."""

    def __init__(self, context):
        self.layers, self.rounds = gated_layers(context.model), []

    def scores(self, round_number):
        self.rounds.append(round_number)
        return {
            n: torch.arange(m.r, dtype=torch.float64) + 100 * ("query" in n)
            for n, m in self.layers.items()
        }


def test_rounds_come_at_K1_and_every_K2_steps_and_at_most_N_A_of_them():
    model = encoder(r=4)
    allocator = Allocator(context_of(model, rounds=3, ranks_moved=2), Told)
    traced = {done: allocator.after_step(done) for done in range(1, 15)}
    assert [done for done, row in traced.items() if "allocation" in (row or {})] == [4, 6, 8]
    assert allocator.score.rounds == [0, 1, 2]
    assert allocator.rounds_done == 3
    row = traced[4]["allocation"]
    assert row["step"] == 4
    assert row["ranks"].keys() == row["scores"].keys() == gated_layers(model).keys()
    assert row["scores"]["bert.encoder.layer.0.attention.self.query"] == [100, 101, 102, 103]
    assert row["ranks"]["bert.encoder.layer.0.attention.self.query"] == 5
    assert row["ranks"]["bert.encoder.layer.0.attention.self.key"] == 3


def test_no_round_follows_the_last_step_for_nothing_would_train_what_it_gives():
    for steps, expected in ((8, [4, 6]), (9, [4, 6, 8]), (4, [])):
        model = encoder(r=2)
        allocator = Allocator(context_of(model, steps=steps, ranks_moved=1), Told)
        rows = {done: allocator.after_step(done) or {} for done in range(1, steps + 1)}
        held = [done for done, row in rows.items() if "allocation" in row]
        assert held == expected


def test_the_total_is_conserved_round_after_round():
    model = encoder(r=3)
    allocator = Allocator(context_of(model, ranks_moved=5, rounds=8), Told)
    total = sum(ranks_by_module(gated_layers(model)).values())
    for done in range(1, 30):
        row = allocator.after_step(done) or {}
        if "allocation" in row:
            ranks = row["allocation"]["ranks"]
            assert sum(ranks.values()) == total
            assert ranks == ranks_by_module(gated_layers(model))
    assert allocator.rounds_done == 8
    ranks = ranks_by_module(gated_layers(model))
    assert min(ranks.values()) == 0
    assert max(ranks.values()) > 3


def test_norms_are_kept_apart_by_the_round_a_rank_was_born_in():
    model = encoder(r=2)
    allocator = Allocator(context_of(model, rounds=2, ranks_moved=2), Told)
    layers = gated_layers(model)
    with torch.no_grad():
        for layer in layers.values():
            layer.lora_B.fill_(1.0)
    before = allocator.norms_by_birth()
    norms = torch.cat([layer.rank_norms() for layer in layers.values()])
    assert before == [pytest.approx(norms.mean().item(), rel=1e-4)]
    allocator.after_step(4)
    old, new = allocator.norms_by_birth()
    assert old > 0
    assert new == 0  # B of a new rank is zero
    assert sum(birth == 1 for row in allocator.born.values() for birth in row) == 2
    values, _ = allocator.state()
    assert values["born"] == allocator.born


def test_n_A_is_the_modules_of_a_block_unless_told():
    model = encoder(r=2)
    allocator = Allocator(context_of(model), Told)
    assert allocator.ranks_moved == 6  # query, key, value, output, intermediate, output
    before = ranks_by_module(gated_layers(model))
    after = allocator.after_step(4)["allocation"]["ranks"]
    assert sum(max(0, after[n] - before[n]) for n in before) == 6


@pytest.mark.parametrize("budget", [2, 24, 30, 36, 40])
def test_a_budget_is_what_training_starts_with(budget):
    model = encoder(r=3, moved=False)
    before = {n: m.lora_A.detach().clone() for n, m in gated_layers(model).items()}
    allocator = Allocator(context_of(model, rank_budget=budget, ranks_moved=1), Told)
    ranks = ranks_by_module(gated_layers(model))
    assert sum(ranks.values()) == budget
    assert max(ranks.values()) - min(ranks.values()) <= 1
    for name, layer in gated_layers(model).items():
        kept = min(3, layer.r)
        assert torch.equal(layer.lora_A[:kept], before[name][:kept])
        assert any(p is layer.lora_B for p in allocator.optimizer.param_groups[0]["params"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank_budget": 1}, "rank_budget must be at least 2, one rank a block, and at most 192"),
        ({"rank_budget": 193}, "rank_budget must be at least 2.*at most 192.*got 193"),
        ({"ranks_moved": 25}, "ranks_moved must be at least 1 and at most 24.*got 25"),
        ({"ranks_moved": 0}, "ranks_moved must be at least 1 and at most 24.*got 0"),
        ({"rank_budget": 4}, "ranks_moved must be at least 1 and at most 4.*got 6"),
        ({"rank_budget": 4, "ranks_moved": 5}, "ranks_moved must be.*at most 4.*got 5"),
        ({"first_round": 0}, "first_round must be at least 1, got 0"),
        ({"round_every": 0}, "round_every must be at least 1, got 0"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
    ],
)
def test_bad_settings_of_a_round_are_one_sentence_and_change_nothing(settings, message):
    model = encoder(r=2)
    held = {n: id(p) for n, p in model.named_parameters()}
    with pytest.raises(ValueError, match=message) as caught:
        Allocator(context_of(model, **settings), Told)
    assert "\n" not in str(caught.value)
    assert {n: id(p) for n, p in model.named_parameters()} == held


def test_new_ranks_follow_the_seed_and_the_round():
    drawn = {}
    for seed in (3, 3, 4):
        model = encoder(r=2)
        allocator = Allocator(context_of(model, seed=seed, ranks_moved=2), Told)
        rows = []
        for done in (4, 6):
            allocator.after_step(done)
            rows.append(
                gated_layers(model)["bert.encoder.layer.0.attention.self.query"].lora_A[-1].detach()
            )
        assert not torch.equal(*rows)
        drawn.setdefault(seed, []).append(rows[0])
    assert torch.equal(*drawn[3])
    assert not torch.equal(drawn[3][0], drawn[4][0])


def test_gradients_of_the_step_just_made_do_not_stop_a_round():
    model = encoder(r=2)
    allocator = Allocator(context_of(model, ranks_moved=2), Told)
    model(**text_batch()).loss.backward()
    allocator.optimizer.step()
    assert allocator.after_step(4)
    assert all(p.grad is None for m in gated_layers(model).values() for p in m.parameters())


def test_ablation_scores_are_those_of_the_held_out_batch_in_evaluation_mode():
    model = encoder(r=2, lora_dropout=0.5, dtype=torch.float64)
    score = AblationScore(context_of(model))
    model.train()
    found = score.scores(0)
    assert all(m.training for m in model.modules())
    model.eval()
    expected = plain_scores(model, text_batch())
    for name, row in expected.items():
        torch.testing.assert_close(found[name], row, rtol=0, atol=1e-10)
    score.scores(0)
    assert not any(m.training for m in model.modules())


class InPlace(nn.Module):
    """A block that adds in place to its layers' outputs, as Falcon's does: no replay can follow."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 6)
        self.first, self.again, self.classifier = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, input_ids, **_):
        x = self.embed(input_ids).mean(dim=1)
        y = self.first(x)
        y += self.again(torch.tanh(y))
        return types.SimpleNamespace(logits=self.classifier(y))


def test_no_copies_are_plain_passes_which_score_what_a_replay_cannot():
    torch.manual_seed(0)
    model = inject_adapters(InPlace(), "alora-ablation", r=2, target_modules=["first", "again"])
    for layer in gated_layers(model).values():
        layer.lora_B.data.normal_()
    with pytest.raises(ValueError, match=r"in place.*set copies to 0"):
        AblationScore(context_of(model)).scores(0)
    found = AblationScore(context_of(model, copies=0)).scores(0)
    expected = plain_scores(model.eval(), text_batch())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], row) and row.any() for name, row in expected.items())


def test_a_model_is_in_training_mode_again_though_its_scoring_failed():
    model = encoder(r=2)
    score = AblationScore(context_of(model))
    score.batch = {k: v for k, v in score.batch.items() if k != "labels"}
    model.train()
    with pytest.raises((ValueError, KeyError)):
        score.scores(0)
    assert model.training


def test_ablation_without_a_batch_is_one_sentence():
    model = encoder(r=2)
    context = HookContext(
        model=model,
        optimizer=context_of(model).optimizer,
        settings=AllocationSettings(first_round=1, round_every=1),
        steps=5,
        seed=0,
    )
    with pytest.raises(ValueError, match="alora-ablation needs a held-out batch"):
        AblationScore(context)
    with pytest.raises(ValueError, match="alora-dnas needs a second half of the training set"):
        RelaxedGateScore(context)


def test_magnitude_is_the_norm_of_each_ranks_update():
    model = encoder(r=3, lora_alpha=6)
    for name, row in MagnitudeScore(context_of(model)).scores(0).items():
        layer = model.get_submodule(name)
        for k in range(3):
            update = 2 * torch.outer(layer.lora_B[:, k], layer.lora_A[k])
            assert row[k].item() == pytest.approx(update.norm().item(), rel=1e-5)


def test_random_scores_follow_the_seed_and_the_round_and_nothing_else():
    model = encoder(r=3)
    first = RandomScore(context_of(model, seed=3)).scores(0)
    torch.rand(7)
    again = RandomScore(context_of(model, seed=3)).scores(0)
    assert all(torch.equal(first[n], again[n]) for n in first)
    others = [
        RandomScore(context_of(model, seed=3)).scores(1),
        RandomScore(context_of(model, seed=4)).scores(0),
    ]
    for other in others:
        assert not any(torch.equal(first[n], other[n]) for n in first)
    rows = list(first.values())
    assert all(0 <= v < 1 for row in rows for v in row.tolist())
    assert len({v for row in rows for v in row.tolist()}) == 36


def test_t_moves_by_adam_on_the_gradient_of_the_other_half_alone():
    model = encoder("alora-dnas", r=2, dtype=torch.float64)
    context = context_of(model, without=("lora_gate_logit",), gate_lr=0.05)
    score = RelaxedGateScore(context)
    layers = gated_layers(model)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model(**text_batch(seed=7)).loss.backward()  # as the main loop leaves it
    kept = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model(**text_batch(seed=100 + 2)).loss.backward()  # the other half's batch of step 3
    expected = {n: m.lora_gate_logit.grad.sign() for n, m in layers.items()}
    model.zero_grad()
    for name, parameter in model.named_parameters():
        parameter.grad = kept.get(name)
    score.after_step(3)
    for name, parameter in model.named_parameters():
        if name.endswith("lora_gate_logit"):
            step = (parameter - before[name]).detach()  # Adam's first step is lr · sign
            torch.testing.assert_close(
                step, -0.05 * expected[name.rpartition(".")[0]], rtol=1e-3, atol=0
            )
            assert parameter.grad is None
        else:
            assert torch.equal(parameter, before[name])
            assert parameter.grad is kept.get(name)
    for name, row in score.scores(0).items():
        t = layers[name].lora_gate_logit.detach()
        torch.testing.assert_close(row, 2 / (1 + torch.exp(-t)))


def test_t_of_ranks_that_stay_keeps_adams_state_when_ranks_move():
    model = encoder("alora-dnas", r=2)
    context = context_of(model, without=("lora_gate_logit",), ranks_moved=3)
    allocator = Allocator(context, RelaxedGateScore)
    for done in range(1, 4):
        allocator.after_step(done)
    (adam,) = allocator.score.optimizers
    layers = gated_layers(model)
    states = {n: adam.state[m.lora_gate_logit]["exp_avg"].clone() for n, m in layers.items()}
    moments = []
    original = allocator.move

    def move(scores):
        moments.append(
            {n: adam.state[m.lora_gate_logit]["exp_avg"].clone() for n, m in layers.items()}
        )
        original(scores)

    allocator.move = move
    allocator.after_step(4)
    assert states.keys() == moments[0].keys()
    held = {id(p) for group in adam.param_groups for p in group["params"]}
    assert held == {id(m.lora_gate_logit) for m in layers.values()}
    changed = 0
    for name, layer in layers.items():
        now = adam.state.get(layer.lora_gate_logit)
        if now is None:
            continue
        assert now["exp_avg"].shape == (layer.r,)
        if layer.r > 2:
            assert torch.equal(now["exp_avg"][:2], moments[0][name])
            assert now["exp_avg"][2:].abs().max() == 0
            changed += 1
    assert changed


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
