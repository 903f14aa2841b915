"""The panel of notebook 08: controls, live runs, and the exercise by hand."""

import copy
from dataclasses import replace

import pytest

from allora_lab.experiments.allocation_runs import base_settings, planned_runs, recorded_run
from allora_lab.panels.allocation import LIVE_LABEL, AllocationPanel, layer_names
from allora_lab.panels.by_hand import ByHand

TINY = {
    "steps": 14,
    "train_size": 48,
    "first_round": 4,
    "round_every": 3,
    "eval_size": 16,
    "max_length": 12,
    "dataset": "rotten_tomatoes_rated",
}


def pixels(panel):
    return panel.picture.value


def ends(control):
    values = [v[1] if isinstance(v, tuple) else v for v in control._options_full]
    return values[0], values[-1]


@pytest.mark.parametrize("name", ["method", "budget", "ranks_moved"])
def test_every_control_changes_the_picture_or_the_words(name):
    panel = AllocationPanel().panel
    panel.controls["round_number"].value = 0
    seen = set()
    for end in ends(panel.controls[name]):
        panel.controls[name].value = end
        seen.add((pixels(panel), panel.caption.value, panel.values()[name]))
    assert len(seen) == 2


def test_the_panels_runs_are_the_sweeps():
    panel = AllocationPanel()
    planned = set(planned_runs())
    for method in ("alora-ablation", "lora", "alora-random"):
        assert panel.config(method, 144, None) in planned
    assert panel.config("alora-ablation", 144, 24) in planned
    assert base_settings()["r"] == 4


def test_n_A_is_switched_off_where_no_rank_moves():
    panel = AllocationPanel().panel
    panel.controls["method"].value = "lora"
    assert panel.controls["ranks_moved"].disabled
    panel.controls["method"].value = "alora-random"
    assert not panel.controls["ranks_moved"].disabled


def test_a_live_run_moves_ranks_and_the_round_slider_walks_through_them():
    panel = AllocationPanel(**TINY)
    panel.panel.controls["method"].value = "alora-magnitude"
    panel.panel.controls["ranks_moved"].value = 24
    assert "no run of this setting" in panel.panel.caption.value
    panel.live.button.click()
    panel.live.wait(120)
    assert panel.live.status.value == "finished"
    seen = set()
    for round_number in range(5):
        panel.panel.controls["round_number"].value = round_number
        seen.add(pixels(panel.panel))
        assert "144 ranks" in panel.panel.caption.value
    assert len(seen) == 5
    assert "live run on" in panel.panel.caption.value
    assert panel.live.config.dataset == "rotten_tomatoes_rated"
    panel.panel.reset.click()
    assert "no run of this setting" in panel.panel.caption.value


@pytest.fixture
def with_a_live_run():
    """Return the panel with a finished live run of its start: two rounds, 12.5 % right."""
    panel = AllocationPanel()
    recorded = recorded_run(panel.config("alora-ablation", 144, 0))
    trace = copy.deepcopy(recorded.trace)
    moved = trace["allocation"]
    moved["step"] = moved["step"][:2]
    moved["ranks"] = {name: rounds[:2] for name, rounds in moved["ranks"].items()}
    panel.live.config, panel.live.trace = panel._config_now(), trace
    panel.live.record = replace(recorded, trace=trace, metrics={"eval_accuracy": 0.125})
    panel.panel.refresh()
    return panel.panel


def test_after_a_live_run_accuracy_data_and_round_are_the_live_runs(with_a_live_run):
    words, drawn = with_a_live_run.caption.value, pixels(with_a_live_run).decode()
    assert "12.5 %" in words
    assert f"live run on {LIVE_LABEL}" in words
    assert "after round 2 of 2" in words
    assert "live: ranks after round 2 of 2" in drawn
    with_a_live_run.controls["method"].value = "alora-random"
    assert "recorded run on Rotten Tomatoes after round 4 of 4" in with_a_live_run.caption.value
    assert "live" not in pixels(with_a_live_run).decode()


def test_an_accuracy_is_shown_only_at_the_round_it_was_measured_at():
    panel = AllocationPanel().panel
    for round_number, is_shown in ((0, False), (1, False), (3, False), (4, True)):
        panel.controls["round_number"].value = round_number
        assert (" % of 512 test sentences" in panel.caption.value) == is_shown


def test_a_setting_without_a_record_draws_nothing_and_says_so():
    panel = AllocationPanel(**TINY).panel
    assert "no run of this setting is recorded" in panel.caption.value
    drawn = pixels(panel).decode()
    assert "no run of this setting is recorded" in drawn
    assert "query" not in drawn
    assert not panel.figure.axes


def test_the_map_has_minilms_layers():
    from allora_lab.allocation.places import place_of

    assert len(layer_names()) == 36
    assert {place_of(name)[0] for name in layer_names()} == set(range(6))


def test_by_hand_gives_the_papers_example_and_a_hint_that_fits_the_mistake():
    exercise = ByHand(8, {"m1": 0.9, "m2": 0.5, "m3": 0.1}, lost=("m4",))

    def hint(*values):
        for box, value in zip(exercise.inputs.values(), values, strict=True):
            box.value = value
        exercise.check.click()
        return exercise.verdict.value

    assert exercise.answer() == {"m1": 3, "m2": 3, "m3": 2, "m4": 0}
    assert "Right" in hint(3, 3, 2, 0)
    assert "7 of 8" in hint(3, 2, 2, 0)
    assert "lost a rank" in hint(3, 2, 2, 1)
    assert "2 each at least" in hint(5, 2, 1, 0)
    assert "higher means" in hint(2, 3, 3, 0)
