"""The sweeps of this repository: they read, their comparisons pair, and their rates follow the rule."""

from pathlib import Path

import pytest

from allora_lab.experiments.collected import collect
from allora_lab.experiments.comparison import require_one_machine
from allora_lab.experiments.comparison_config import peak_lr
from allora_lab.experiments.learning_rates import best_rate, chosen_rates
from allora_lab.experiments.pairing import by_setting, paired_settings
from allora_lab.experiments.records import find_record, read_record
from allora_lab.experiments.sweep import read_sweep

SWEEPS = Path(__file__).parents[2] / "sweeps"
FILES = sorted(SWEEPS.rglob("*.toml"))
EXPERIMENTS = (
    "ablation",
    "components",
    "data-size",
    "dropout-epochs",
    "flaws",
    "learning-rate",
    "rank-rates",
    "allocation",
    "commonsense",
    "e2e",
    "perception",
    "ranks",
    "stability",
)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SWEEPS)))
def test_every_sweep_reads_and_its_comparisons_pair_over_seeds(path):
    sweep = read_sweep(path)
    assert sweep.configs
    runs = by_setting(sweep.configs)
    for comparison in sweep.comparisons:
        for ours, theirs in paired_settings(comparison, sweep.configs):
            assert len(runs[ours].keys() & runs[theirs].keys()) >= 3


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_recorded_on_one_kind_of_device_with_clean_code(name):
    collected = collect(name)
    assert len(collected.records) == len(collected.sweep.configs)
    for record in collected.records:
        assert record.code_dirty is False
        assert len(record.code_commit) == 40
    for setting, runs in by_setting(collected.sweep.configs).items():
        found = [find_record(name, config) for config in runs.values()]
        require_one_machine(str(setting), [read_record(path) for path in found])


def test_the_rule_takes_the_highest_mean_and_of_equals_the_lowest_rate():
    assert best_rate({0.1: [50.0, 60.0], 0.2: [54.0, 58.0], 0.4: [0.0, 90.0]}) == 0.2
    assert best_rate({0.4: [60.0], 0.1: [60.0], 0.2: [59.0]}) == 0.1


def test_the_base_rates_of_the_perception_sweep_are_half_of_loras_best():
    best = chosen_rates(collect("learning-rate").records)
    sweep = read_sweep(SWEEPS / "perception.toml")
    for config in sweep.configs:
        base = best[config.optimizer, "lora", config.steps] / 2
        if config.method != "lora":
            assert config.lr == pytest.approx(base)
        assert 0.99 * base < peak_lr(config) < 2.01 * base


def test_learning_rates_were_chosen_on_dev_and_everything_else_is_scored_on_test():
    for name in EXPERIMENTS:
        splits = {config.eval_split for config in read_sweep(SWEEPS / f"{name}.toml").configs}
        assert splits == {"dev" if name in ("learning-rate", "rank-rates") else "test"}
