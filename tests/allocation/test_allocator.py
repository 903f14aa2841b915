"""Algorithm 1 with any score, step by step outside the loop."""

import pytest
import torch

from allora_lab.allocation.allocator import Allocator
from allora_lab.allocation.places import gated_layers, ranks_by_module
from allora_lab.allocation.scores import (
    RankScore,
)

from .hooked import context_of, encoder
from .tiny import text_batch


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
