"""Accuracy against one setting: all sentences have a place on the axis, two rates of LoRA two lines."""

import pytest

from allora_lab.config import RunConfig
from allora_lab.experiments.accuracy_curves import data_size_content, lines, sentences_in
from allora_lab.experiments.records import record_path, write_record
from allora_lab.experiments.sweep import read_sweep
from allora_lab.files import REPOSITORY
from allora_lab.plots.curves import curves_figure

SWEEP = read_sweep(REPOSITORY / "sweeps" / "data-size.toml")


@pytest.fixture
def recorded(tmp_path, monkeypatch, record_of):
    """Record the sweep: 50 % and a point a doubling; ALLoRA as LoRA at lr, both a point below 2 lr."""
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    for config in SWEEP.configs:
        size = sentences_in(config)
        points = 50 + size / 1000 + config.seed + (config.lr == 0.002)
        write_record(record_path("data-size", config), record_of(config, points / 100))


def test_all_sentences_are_counted():
    config = RunConfig(method="lora", dataset="rotten_tomatoes", train_size=None)
    assert sentences_in(config) == 8530
    assert sentences_in(config.with_changes(train_size=256)) == 256


@pytest.mark.usefixtures("recorded")
def test_the_largest_size_is_all_sentences_and_the_two_rates_of_lora_are_told_apart():
    (panel,) = data_size_content()["panels"]
    assert [(line["label"], line["dashed"]) for line in panel["lines"]] == [
        ("LoRA, lr 0.001", False),
        ("LoRA, lr 0.002", True),
        ("ALLoRA", False),
        ("ALLoRA on the update (ours)", False),
    ]
    for line in panel["lines"]:
        assert line["x"] == [256, 1024, 4096, 8530]
    slow, fast = (line["mean"] for line in panel["lines"][:2])
    assert slow == pytest.approx([52.256, 53.024, 55.096, 59.53])  # 3 seeds from 4,096 on
    assert fast == pytest.approx([mean + 1 for mean in slow])


@pytest.mark.usefixtures("recorded")
def test_sentences_give_each_size_by_itself_and_the_mean_over_all():
    said = data_size_content()["sentences"]
    assert said[0] == (
        "ALLoRA - LoRA at eta x lr, by number of sentences: "
        "256: -1.0 points [-1.0, -1.0], 5 seeds; 1,024: -1.0 points [-1.0, -1.0], 5 seeds; "
        "4,096: -1.0 points [-1.0, -1.0], 3 seeds; 8,530: -1.0 points [-1.0, -1.0], 3 seeds."
    )
    assert any("over 4 settings and 3 seeds" in sentence for sentence in said)


@pytest.mark.usefixtures("recorded")
def test_the_second_line_of_a_method_is_drawn_dashed():
    (axes,) = curves_figure(data_size_content()).axes
    drawn = [line for line in axes.get_lines() if line.get_ms() < 8]
    assert [line.get_linestyle() for line in drawn] == ["-", "--", "-", "-"]
    assert drawn[0].get_color() == drawn[1].get_color() != drawn[2].get_color()


def test_a_line_goes_by_what_its_runs_are_placed_at(record_of):
    configs = [RunConfig(method="lora", r=r, seed=s) for r in (8, 4) for s in (0, 1)]
    records = [record_of(c, 0.5 + c.r / 100 + c.seed / 10) for c in configs]
    (line,) = lines(records, lambda config: config.r, lambda config: config.method)
    assert line["x"] == [4, 8]
    assert line["mean"] == pytest.approx([59, 63])
