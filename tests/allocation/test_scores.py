"""The scores by which ranks are kept: ablation, magnitude, chance, learned gates."""

import types

import pytest
import torch
from torch import nn

from allora_lab import inject_adapters
from allora_lab.allocation.allocator import Allocator
from allora_lab.allocation.importance import plain_scores
from allora_lab.allocation.places import gated_layers
from allora_lab.allocation.scores import (
    AblationScore,
    MagnitudeScore,
    RandomScore,
    RelaxedGateScore,
)
from allora_lab.allocation.settings import AllocationSettings, HookContext

from .hooked import context_of, encoder
from .tiny import text_batch


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
