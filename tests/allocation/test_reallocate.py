"""Algorithm 1's step as a pure function, against the paper's example and a search over seeds."""

import pytest
import torch

from allora_lab.allocation.places import blocks, modules_per_block, place_of, starting_ranks
from allora_lab.allocation.reallocate import lowest, reallocate, spread


def rows(**scores):
    return {name: torch.tensor(row, dtype=torch.float64) for name, row in scores.items()}


ROOM = dict.fromkeys("abcdefg", 100)


def test_the_papers_example_gives_three_three_and_two():
    averages = {"m3": 0.1, "m1": 0.3, "m2": 0.2}
    assert spread(8, averages, dict.fromkeys(averages, 100)) == {"m1": 3, "m2": 3, "m3": 2}


def test_the_papers_example_from_scores_to_ranks():
    pruned = [*[0.001] * 4, 0.9]  # two modules that lose four each, whatever else they have
    scores = rows(a=pruned, b=[0.4] * 5, c=pruned, d=[0.6] * 5, e=[0.5] * 5)
    plan = reallocate(scores, 8, ROOM)
    assert plan.added == {"a": 0, "b": 2, "c": 0, "d": 3, "e": 3}
    assert plan.keep["a"] == plan.keep["c"] == (4,)
    assert plan.keep["b"] == plan.keep["d"] == plan.keep["e"] == (0, 1, 2, 3, 4)


def test_the_remainder_follows_the_average_and_not_the_sum_or_the_best_rank():
    scores = rows(a=[-1.0], many=[1.0, 1.0, 1.0, 1.0], few=[1.5], best=[1.4, 9.0, 0.1, 0.1, 0.1])
    plan = reallocate(scores, 1, dict.fromkeys(scores, 100))
    # sums 4, 1.5, 10.7; averages 1, 1.5, 2.14
    assert plan.added == {"a": 0, "many": 0, "few": 0, "best": 1}
    scores["best"] = scores["best"] - 1
    scores["a"] = scores["a"] - 9
    assert reallocate(scores, 1, dict.fromkeys(scores, 100)).added["few"] == 1


def test_a_full_module_passes_its_share_on_evenly():
    averages = {"a": 3.0, "b": 2.0, "c": 1.0}
    assert spread(7, averages, {"a": 100, "b": 100, "c": 1}) == {"a": 3, "b": 3, "c": 1}
    assert spread(8, averages, {"a": 1, "b": 100, "c": 100}) == {"a": 1, "b": 4, "c": 3}
    assert spread(5, averages, {"a": 0, "b": 100, "c": 100}) == {"a": 0, "b": 3, "c": 2}
    assert spread(9, averages, {"a": 2, "b": 0, "c": 3}) == {"a": 2, "b": 0, "c": 3}


def test_of_equal_scores_the_first_of_the_model_leaves_and_the_first_gets_the_remainder():
    scores = rows(a=[0.0, 0.0], b=[0.0, 0.0], c=[0.0, 0.0], d=[0.0, 0.0])
    plan = reallocate(scores, 3, ROOM)
    assert plan.keep == {"a": (), "b": (1,), "c": (0, 1), "d": (0, 1)}
    assert plan.added == {"a": 0, "b": 0, "c": 2, "d": 1}


def test_when_every_module_lost_one_nothing_is_given_out():
    scores = rows(a=[0.1, 9.0], b=[0.2, 9.0])
    plan = reallocate(scores, 2, ROOM)
    assert plan.keep == {"a": (1,), "b": (1,)}
    assert plan.added == {"a": 0, "b": 0}


def test_a_module_without_ranks_can_come_back_but_after_the_others():
    scores = rows(a=[0.1, 0.2, 0.3], empty=[], b=[-5.0, 9.0], c=[5.0])
    assert reallocate(scores, 1, dict.fromkeys(scores, 9)).added == {
        "a": 0,
        "empty": 0,
        "b": 0,
        "c": 1,
    }
    scores["b"] = scores["b"][:1]
    scores["a"] = torch.tensor([-9.0, -8.0, 7.0])
    plan = reallocate(scores, 3, dict.fromkeys(scores, 9))
    assert plan.keep == {"a": (2,), "empty": (), "b": (), "c": (0,)}
    assert plan.added == {"a": 0, "empty": 1, "b": 0, "c": 2}


def test_the_lowest_are_by_value_and_negative_scores_are_lower_than_zero():
    scores = rows(a=[0.0, -1e-9, 3.0], b=[-2.0, 1e-9])
    assert lowest(scores, 2) == {("b", 0), ("a", 1)}
    assert lowest(scores, 0) == set()


@pytest.mark.parametrize("seed", range(200))
def test_whatever_the_scores_the_rules_of_the_paper_hold(seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high, (), generator=generator))

    names = [f"m{i}" for i in range(draw(1, 7))]
    capacities = {name: draw(1, 9) for name in names}
    now = {name: draw(0, capacities[name] + 1) for name in names}
    now[names[0]] = max(1, now[names[0]])
    scores = {n: torch.randn(k, generator=generator).mul(3).round() for n, k in now.items()}
    total = sum(now.values())
    n = draw(1, total + 1)
    plan = reallocate(scores, n, capacities)

    losers = {name for name in names if len(plan.keep[name]) < now[name]}
    assert sum(now[name] - len(plan.keep[name]) for name in names) == n
    gone = [v for m in names for k, v in enumerate(scores[m].tolist()) if k not in plan.keep[m]]
    stay = [scores[name][k].item() for name in names for k in plan.keep[name]]
    assert not stay or max(gone) <= min(stay)
    assert all(plan.added[name] == 0 for name in losers)
    after = {name: len(plan.keep[name]) + plan.added[name] for name in names}
    assert all(0 <= after[name] <= capacities[name] for name in names)
    assert all(plan.added[name] >= 0 for name in names)

    others = [name for name in names if name not in losers]
    room = {name: capacities[name] - now[name] for name in others}
    assert sum(plan.added.values()) == min(n, sum(room.values()))  # footnote 4 and nothing else
    open_to = [name for name in others if plan.added[name] < room[name]]
    for name in open_to:  # evenly: no one who has room is two behind, or one behind a lower average
        for other in others:
            assert plan.added[other] <= plan.added[name] + 1
            if plan.added[other] == plan.added[name] + 1 and now[name] and now[other]:
                assert scores[other].mean() >= scores[name].mean()


@pytest.mark.parametrize(
    ("n", "message"),
    [
        (0, "ranks_moved must be at least 1, got 0"),
        (-1, "ranks_moved must be at least 1"),
        (4, "ranks_moved must be at most 3, the ranks there are, got 4"),
    ],
)
def test_more_ranks_than_there_are_or_none_cannot_move(n, message):
    with pytest.raises(ValueError, match=message):
        reallocate(rows(a=[1.0, 2.0], b=[3.0]), n, ROOM)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_not_finite_is_refused_and_its_module_named(bad):
    with pytest.raises(ValueError, match="the scores of b are not finite: lower lr"):
        reallocate(rows(a=[1.0], b=[2.0, bad]), 1, ROOM)


def test_all_ranks_can_move_at_once():
    plan = reallocate(rows(a=[1.0], b=[2.0], c=[]), 2, {"a": 3, "b": 3, "c": 1})
    assert plan.keep == {"a": (), "b": (), "c": ()}
    assert plan.added == {"a": 0, "b": 0, "c": 1}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("bert.encoder.layer.3.attention.self.query", (3, "attention.self.query")),
        ("model.layers.11.mlp.gate_proj", (11, "mlp.gate_proj")),
        ("transformer.h.0.attn.c_attn", (0, "attn.c_attn")),
        ("query", (0, "query")),
        ("net.2", (2, "2")),
    ],
)
def test_a_layers_place_is_its_block_and_its_name_in_it(name, place):
    assert place_of(name) == place


NAMES = [f"layer.{block}.{m}" for block in range(3) for m in ("query", "value", "up")]


def test_modules_are_counted_by_block():
    assert modules_per_block(NAMES) == 3
    assert modules_per_block([*NAMES, "layer.1.down"]) == 4
    assert modules_per_block([*NAMES, "pooler", "projection"]) == 3
    assert modules_per_block(["query", "value"]) == 2
    assert blocks(NAMES) == 3


def test_a_budget_is_spread_evenly_and_its_remainder_over_blocks_first():
    capacities = dict.fromkeys(NAMES, 8)
    assert set(starting_ranks(capacities, 18).values()) == {2}
    assert set(starting_ranks(capacities, 72).values()) == {8}
    ranks = starting_ranks(capacities, 13)  # one each, then the first of each block, then one more
    assert ranks == {
        **dict.fromkeys(NAMES, 1),
        **{f"layer.{block}.query": 2 for block in range(3)},
        "layer.0.value": 2,
    }
    least = starting_ranks(capacities, 3)
    assert [name for name, rank in least.items() if rank] == [f"layer.{b}.query" for b in range(3)]


@pytest.mark.parametrize("seed", range(30))
def test_a_starting_budget_is_met_exactly_within_every_capacity(seed):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(1, 9, (len(NAMES),), generator=generator).tolist()
    capacities = dict(zip(NAMES, drawn, strict=True))
    budget = int(torch.randint(3, sum(drawn) + 1, (), generator=generator))
    ranks = starting_ranks(capacities, budget)
    assert sum(ranks.values()) == budget
    assert all(0 <= ranks[name] <= capacities[name] for name in NAMES)
    unfilled = [ranks[name] for name in NAMES if ranks[name] < capacities[name]]
    assert not unfilled or max(ranks.values()) <= min(unfilled) + 1


@pytest.mark.parametrize("budget", [2, 73])
def test_a_budget_below_one_a_block_or_above_what_fits_is_one_sentence(budget):
    expected = f"rank_budget must be at least 3, one rank a block, and at most 72.*got {budget}"
    with pytest.raises(ValueError, match=expected):
        starting_ranks(dict.fromkeys(NAMES, 8), budget)
