"""Which runs a [[compare]] block pairs, what it refuses, and what the pairs add up to."""

import tomllib
from dataclasses import replace

import pytest

from allora_lab.config import RunConfig
from allora_lab.experiments.comparison import compare, comparison_rows
from allora_lab.experiments.comparison_config import comparisons_from, peak_lr
from allora_lab.experiments.pairing import paired_settings
from allora_lab.experiments.records import read_record
from allora_lab.experiments.statistics import paired
from allora_lab.experiments.sweep import read_sweep
from allora_lab.files import REPOSITORY

ESCAPE = REPOSITORY / "results" / "escape"
TEMPLATE = read_record(min(ESCAPE.glob("*.json")))
AT_PEAK = {"ours": {"method": "allora"}, "theirs": {"method": "lora"}, "match": ["peak_lr"]}


def comparison(ours, theirs, match=(), name="c"):
    block = {"name": name, "ours": ours, "theirs": theirs, "match": list(match)}
    return comparisons_from([block])[0]


def recorded(config, accuracy, **changes):
    metrics = {"eval_accuracy": accuracy, "eval_loss": 0.5}
    values = {"run_id": config.run_id, "config": config.to_json(), "metrics": metrics}
    return replace(TEMPLATE, **{**values, **changes})


def configs(seeds=3, **settings):
    return [RunConfig(**settings, seed=seed) for seed in range(seeds)]


def pairs_of(block, sweep):
    return [
        (ours.method, ours.lr, ours.eta_squared, theirs.method, theirs.lr, theirs.eta_squared)
        for ours, theirs in paired_settings(block, sweep)
    ]


# --- what is declared


def test_a_block_of_toml_becomes_a_comparison():
    text = """
    [[compare]]
    name = "ALLoRA - LoRA at eta x lr"
    ours   = { method = "allora", r = 4 }
    theirs = { method = "lora", lr = 1 }
    match  = ["peak_lr"]
    """
    (one,) = comparisons_from(tomllib.loads(text)["compare"])
    assert one.name == "ALLoRA - LoRA at eta x lr"
    assert (dict(one.ours), dict(one.theirs)) == (
        {"method": "allora", "r": 4},
        {"method": "lora", "lr": 1.0},
    )
    assert (one.match, one.named) == (("peak_lr",), {"method", "r", "lr"})


def test_left_out_match_is_the_rates_that_no_side_names():
    sides = ({"method": "allora"}, {"method": "lora"})
    assert comparison(*sides).match == ("lr", "eta_squared")
    assert comparison(sides[0] | {"lr": 0.1}, sides[1]).match == ("eta_squared",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"our": {}}, "unknown key of a comparison 'our': did you mean 'ours'"),
        ({"name": 3}, "name of a comparison must be text"),
        ({"ours": {"metod": "allora"}}, "did you mean 'method'"),
        ({"ours": {"method": "alora"}}, "ours of comparison 'c': method 'alora' is ambiguous"),
        ({"ours": {"method": "allora", "lr": "fast"}}, "lr must be a number"),
        ({"ours": {"method": "allora", "seed": 1}}, "names seed"),
        ({"ours": "allora"}, "must be a table"),
        ({"theirs": {}}, "is empty"),
        ({"theirs": {"method": "lora", "eta_squared": 4}}, "lora does not use eta_squared"),
        ({"theirs": {"method": "allora"}}, "could be on both sides"),
        ({"theirs": {"optimizer": "sgd"}}, "could be on both sides"),
        ({"match": "peak_lr"}, "must be a list"),
        ({"match": ["peak"]}, "did you mean 'peak_lr'"),
        ({"ours": {"method": "allora", "lr": 0.1}, "match": ["lr"]}, "leave one of them out"),
    ],
)
def test_a_block_that_cannot_be_meant_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        comparisons_from([{"name": "c", **AT_PEAK, **change}])


def test_a_comparison_needs_its_parts_and_its_own_name():
    with pytest.raises(ValueError, match="has no theirs"):
        comparisons_from([{"name": "c", "ours": {"method": "lora"}}])
    with pytest.raises(ValueError, match="two comparisons are named 'c'"):
        comparisons_from([{"name": "c", **AT_PEAK}] * 2)
    with pytest.raises(ValueError, match=r"\[\[compare\]\]"):
        comparisons_from(["c"])


def test_a_side_without_a_method_may_name_what_only_some_methods_read():
    sweep = configs(method="allora", eta_squared=4) + configs(method="allora", eta_squared=1)
    sweep += configs(method="lora")
    pairs = pairs_of(comparison({"eta_squared": 4}, {"eta_squared": 1}), sweep)
    assert [(pair[2], pair[5]) for pair in pairs] == [(4.0, 1.0)]
    with pytest.raises(ValueError, match="eta_squared must be"):
        comparison({"eta_squared": -4}, {"eta_squared": 1})


# --- what pairs


@pytest.mark.parametrize(
    ("method", "eta_squared", "rate"),
    [
        ("allora", 4, 0.002),
        ("allora-update", 2, 0.001414),
        ("lora", None, 0.001),
        ("asf-lora", 4, 0.001),
        ("lora-fixed-scale", 4, 0.001),
    ],
)
def test_the_peak_rate_is_eta_times_lr_where_eta_scales_a_rate(method, eta_squared, rate):
    assert peak_lr(RunConfig(method=method, lr=0.001, eta_squared=eta_squared)) == rate


def test_match_decides_which_lora_an_allora_meets():
    sweep = configs(method="allora", lr=0.001, eta_squared=4)
    sweep += configs(method="allora", lr=0.001, eta_squared=2)
    for lr in (0.001, 0.001414, 0.002):
        sweep += configs(method="lora", lr=lr)
    sides = ({"method": "allora"}, {"method": "lora"})
    assert pairs_of(comparison(*sides, ["peak_lr"]), sweep) == [
        ("allora", 0.001, 4.0, "lora", 0.002, None),
        ("allora", 0.001, 2.0, "lora", 0.001414, None),
    ]
    assert pairs_of(comparison(*sides, ["lr"]), sweep) == pairs_of(comparison(*sides), sweep)
    assert pairs_of(comparison(*sides), sweep) == [
        ("allora", 0.001, 4.0, "lora", 0.001, None),
        ("allora", 0.001, 2.0, "lora", 0.001, None),
    ]


def test_two_methods_that_read_eta_squared_pair_at_equal_values():
    sweep = [
        config
        for method in ("allora", "allora-update")
        for eta_squared in (1, 4)
        for config in configs(method=method, eta_squared=eta_squared)
    ]
    pairs = pairs_of(comparison({"method": "allora"}, {"method": "allora-update"}), sweep)
    assert [(pair[2], pair[5]) for pair in pairs] == [(1.0, 1.0), (4.0, 4.0)]


@pytest.mark.parametrize("change", [{"r": 4}, {"optimizer": "sgd"}, {"steps": 7}, {"head_lr": 1}])
def test_runs_that_differ_in_anything_else_are_no_pair(change):
    sweep = configs(method="allora") + configs(method="lora", **change)
    with pytest.raises(ValueError, match=f"the nearest differ in .*{next(iter(change))}"):
        paired_settings(comparison({"method": "allora"}, {"method": "lora"}), sweep)


def test_a_method_s_own_dropout_pairs_with_another_s_own_and_with_nothing_else():
    block = comparison({"method": "allora-dropout"}, {"method": "lora"})
    plain, wet = configs(method="lora"), configs(method="lora", lora_dropout=0.05)
    ((_, theirs),) = paired_settings(block, configs(method="allora-dropout") + plain + wet)
    assert theirs.lora_dropout == 0.0
    asked = configs(method="allora-dropout", lora_dropout=0.1)
    with pytest.raises(ValueError, match="lora_dropout"):
        paired_settings(block, asked + plain)
    ((_, theirs),) = paired_settings(block, asked + configs(method="lora", lora_dropout=0.1))
    assert theirs.lora_dropout == 0.1


def test_dropout_that_is_named_pairs_as_named():
    theirs = {"method": "lora", "lora_dropout": 0.05}
    sweep = configs(method="allora-dropout") + configs(method="lora")
    sweep += configs(method="lora", lora_dropout=0.05)
    ((_, found),) = paired_settings(comparison({"method": "allora-dropout"}, theirs), sweep)
    assert found.lora_dropout == 0.05


def test_a_setting_that_only_one_side_names_is_ambiguous_where_the_other_has_several():
    sweep = configs(method="allora") + configs(method="lora") + configs(method="lora", r=4)
    block = comparison({"method": "allora", "r": 8}, {"method": "lora"})
    with pytest.raises(ValueError, match=r"differ in r: give r a value in ours and in theirs$"):
        paired_settings(block, sweep)


def test_rates_that_both_vary_and_are_not_matched_are_ambiguous():
    sweep = [
        config
        for method in ("allora", "lora")
        for lr in (0.001, 0.002)
        for config in configs(method=method, lr=lr)
    ]
    block = comparison({"method": "allora"}, {"method": "lora"}, ["eta_squared"])
    with pytest.raises(ValueError, match=r"differ in lr: .*add it to match"):
        paired_settings(block, sweep)


def test_sides_that_share_no_seed_and_sides_with_no_run_are_told():
    block = comparison({"method": "allora"}, {"method": "lora"})
    late = [config.with_changes(seed=config.seed + 9) for config in configs(method="lora")]
    with pytest.raises(ValueError, match="differ in seed"):
        paired_settings(block, configs(method="allora") + late)
    with pytest.raises(ValueError, match=r"settings of theirs \(method = 'lora'\)"):
        paired_settings(block, configs(method="allora"))


def test_lora_alpha_is_read_at_the_rank_of_each_run():
    # at r 8, alpha 8 is the default and alpha 16 is not; at r 16 it is the other way round
    sweep = [
        config
        for r in (8, 16)
        for lora_alpha in (8, 16)
        for config in configs(method="lora", r=r, lora_alpha=lora_alpha)
    ]
    block = comparison(*({"method": "lora", "lora_alpha": alpha} for alpha in (8, 16)))
    found = [
        (side.lora_alpha or side.r, side.r)
        for pair in paired_settings(block, sweep)
        for side in pair
    ]
    assert found == [(8, 8), (16, 8), (8, 16), (16, 16)]


# --- what it adds up to


def two_ranks():
    """Two groups of three seeds: differences 1, 2, 3 points at r 4 and -2, -1, 0 at r 8."""
    sweep, records = [], []
    for r, start in ((4, 1), (8, -2)):
        for ours, theirs in zip(
            configs(method="allora", r=r), configs(method="lora", r=r), strict=True
        ):
            sweep += [ours, theirs]
            records.append(recorded(ours, 0.70 + 0.01 * (start + ours.seed)))
            records.append(recorded(theirs, 0.70))
    return sweep, records


def test_each_group_is_the_paired_difference_in_points_and_the_pool_averages_them():
    result = compare(comparison({"method": "allora"}, {"method": "lora"}), *two_ranks())
    by_rank = {group.ours.r: group.result for group in result.groups}
    assert by_rank[4].mean_difference == pytest.approx(2)
    assert by_rank[4].effect_size == pytest.approx(2)
    assert (by_rank[8].wins, by_rank[8].ties, by_rank[8].losses) == (0, 1, 2)
    assert result.counts == (1, 0, 1)
    assert result.pooled.mean_difference == pytest.approx(0.5)
    assert (result.pooled.n, result.pooled.effect_size) == (3, pytest.approx(0.5))


def test_a_setting_without_a_difference_is_a_tie_and_no_win():
    sweep, records = two_ranks()
    same = [
        recorded(config, 0.7) if config.r == 8 else r
        for config, r in zip(sweep, records, strict=True)
    ]
    result = compare(comparison({"method": "allora"}, {"method": "lora"}), sweep, same)
    assert result.counts == (1, 1, 0)


def test_a_missing_record_leaves_its_seed_out_and_says_so():
    sweep, records = two_ranks()
    result = compare(comparison({"method": "allora"}, {"method": "lora"}), sweep, records[:-1])
    assert [(len(group.seeds), group.planned) for group in result.groups] == [(3, 3), (2, 3)]
    assert result.pooled.n == 2
    alone = compare(comparison({"method": "allora"}, {"method": "lora"}), sweep, records[:2])
    assert alone.pooled is None
    assert alone.counts == (0, 0, 0)


def test_seeds_that_only_one_side_plans_are_not_planned():
    block = comparison({"method": "allora"}, {"method": "lora"})
    sweep = configs(method="allora") + configs(seeds=2, method="lora")
    records = [recorded(config, 0.7) for config in sweep]
    (group,) = compare(block, sweep, records).groups
    assert (group.seeds, group.planned) == ([0, 1], 2)


def test_settings_that_share_fewer_than_two_seeds_are_not_pooled():
    sweep, records = two_ranks()
    seeds = {4: (0, 1), 8: (1, 2)}
    kept = [record for record in records if record.config["seed"] in seeds[record.config["r"]]]
    result = compare(comparison({"method": "allora"}, {"method": "lora"}), sweep, kept)
    assert len(result.finished) == 2
    assert result.pooled is None


def test_a_pooled_row_has_as_many_planned_seeds_as_its_smallest_setting():
    sweep = [c for method in ("allora", "lora") for c in configs(method=method, r=4)]
    sweep += [c for method in ("allora", "lora") for c in configs(seeds=2, method=method, r=8)]
    block = comparison({"method": "allora"}, {"method": "lora"})
    rows = comparison_rows([block], sweep, [recorded(c, 0.7 + 0.01 * c.seed) for c in sweep])
    assert [row["planned"] for row in rows] == [3, 2, 2]
    assert rows[-1]["settings"] == 2


def test_a_pooled_row_says_how_many_settings_it_is_of():
    sweep, records = two_ranks()
    block = comparison({"method": "allora"}, {"method": "lora"})
    assert comparison_rows([block], sweep, records)[-1]["settings"] == 2
    part = [record for record in records if record.config["r"] == 4]
    assert comparison_rows([block], sweep, part)[-1]["settings"] == "1 of 2"


def test_a_setting_that_differs_between_the_sides_shows_both():
    sweep = configs(method="lora", lr=0.001)
    for eta_squared in (1, 4):
        sweep += configs(method="allora", lr=0.001, eta_squared=eta_squared)
    block = comparison({"method": "allora"}, {"method": "lora"}, ["lr"])
    rows = comparison_rows([block], sweep, [recorded(c, 0.7) for c in sweep])
    assert [row["eta_squared"] for row in rows] == ["1 / –", "4 / –", None]


def test_devices_of_two_kinds_are_never_compared_but_two_cpus_are():
    block = comparison({"method": "allora"}, {"method": "lora"})
    sweep, records = two_ranks()
    other = replace(records[0], device="cpu: another, 8 threads")
    assert compare(block, sweep, [other, *records[1:]]).pooled.n == 3
    gpu = replace(records[0], device="NVIDIA H100")
    with pytest.raises(ValueError, match=r"differ in device .NVIDIA H100 and cpu"):
        compare(block, sweep, [gpu, *records[1:]])


def test_records_of_another_revision_of_the_data_are_not_compared():
    sweep, records = two_ranks()
    old = replace(records[0], dataset_revision="0" * 64)
    with pytest.raises(ValueError, match="differ in dataset revision"):
        compare(comparison({"method": "allora"}, {"method": "lora"}), sweep, [old, *records[1:]])


def test_models_that_are_compared_may_have_their_own_revisions():
    sweep = configs(method="lora") + configs(method="lora", model="distilbert")
    records = [recorded(c, 0.7, model_revision=c.model) for c in sweep]
    block = comparison({"model": "minilm"}, {"model": "distilbert"})
    assert compare(block, sweep, records).groups[0].result.ties == 3


def test_recorded_runs_give_what_their_files_hold():
    sweep = read_sweep(REPOSITORY / "sweeps" / "escape.toml").configs
    records = [read_record(path) for path in sorted(ESCAPE.glob("*--adamw--*.json"))]
    sides = ({"method": "allora", "optimizer": "adamw"}, {"method": "lora", "optimizer": "adamw"})
    result = compare(comparison(*sides, ["peak_lr"]), sweep, records)
    (group,) = result.finished

    def accuracy(method, lr):
        chosen = [RunConfig(method=method, lr=lr, seed=seed).run_id for seed in range(5)]
        found = {
            r.config["seed"]: r.metrics["eval_accuracy"] for r in records if r.run_id in chosen
        }
        return {seed: 100 * value for seed, value in found.items()}

    assert group.result == paired(accuracy("allora", 0.001), accuracy("lora", 0.002))
    assert group.result.n == 5


def test_q_is_adjusted_over_all_groups_of_all_comparisons():
    sweep, records = two_ranks()
    blocks = [
        comparison({"method": "allora"}, {"method": "lora"}, name="there"),
        comparison({"method": "lora"}, {"method": "allora"}, name="back"),
    ]
    rows = comparison_rows(blocks, sweep, records)
    cells = [row for row in rows if row["settings"] == 1]
    # t = ±2√3 at r 4 (p .0742), ∓√3 at r 8 (p .2254), each twice: q = p x 4/2 and p x 4/4
    assert [row["p"] for row in cells] == pytest.approx([0.0742, 0.2254] * 2, abs=1e-4)
    assert [row["q"] for row in cells] == pytest.approx([0.1484, 0.2254] * 2, abs=1e-4)
    assert [row["difference_points"].mean for row in cells] == pytest.approx([2, -1, -2, 1])
