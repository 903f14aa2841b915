"""Every control of every panel is moved to both ends; the picture and the words follow."""

import threading
import time

import pytest
from matplotlib.figure import Figure

from allora_lab.panels.base import Panel, choice, svg_of
from allora_lab.panels.escape import EscapePanel
from allora_lab.panels.one_layer import OneLayerPanel
from allora_lab.panels.question import Question


def ends(control):
    """Return the first and last value a control can take."""
    values = [v[1] if isinstance(v, tuple) else v for v in control._options_full]
    return values[0], values[-1]


def pixels(panel):
    return panel.picture.value


@pytest.mark.parametrize("name", ["eta_squared", "row_norm", "r"])
def test_one_layer_panel_follows_every_control_to_both_ends(name):
    panel = OneLayerPanel()
    panel.controls["row_norm"].value = 0.5  # at zero the rank changes no ratio but rsLoRA's
    seen = set()
    for end in ends(panel.controls[name]):
        panel.controls[name].value = end
        seen.add((pixels(panel), panel.caption.value))
        assert f"{end:g}" in panel.caption.value
    assert len(seen) == 2


CONTROLS = ["method", "optimizer", "eta_squared", "r", "lora_dropout"]


@pytest.mark.parametrize("name", CONTROLS)
def test_escape_panel_follows_every_control_to_both_ends(name):
    panel = EscapePanel().panel
    panel.controls["method"].value = "allora"
    seen = set()
    for end in ends(panel.controls[name]):
        panel.controls[name].value = end
        seen.add((pixels(panel), panel.caption.value))
    assert len(seen) == 2


def test_escape_panel_redraws_its_axes_but_keeps_its_words():
    panel = EscapePanel().panel
    before = pixels(panel), panel.caption.value
    panel.controls["axis"].value = "linear"
    assert pixels(panel) != before[0]
    assert panel.caption.value == before[1]


def test_reset_puts_every_control_and_the_picture_back():
    panel = EscapePanel().panel
    before = panel.values(), pixels(panel), panel.caption.value
    panel.controls["optimizer"].value = "adamw"
    panel.controls["r"].value = 32
    panel.reset.click()
    assert (panel.values(), pixels(panel), panel.caption.value) == before


def test_a_setting_without_a_record_says_so_and_how_to_make_one():
    panel = EscapePanel(steps=3).panel
    assert "no run of this setting is recorded" in panel.caption.value


def test_the_caption_gives_the_recorded_numbers():
    from allora_lab.experiments.demo import FOLDER, escape_config
    from allora_lab.experiments.records import read_record, record_path

    panel = EscapePanel().panel
    panel.controls["optimizer"].value = "adamw"
    record = read_record(record_path(FOLDER, escape_config("adamw", method="allora")))
    assert f"{record.trace['row_norm_mean'][-1]:.3g} long" in panel.caption.value
    assert f"Accuracy {record.metrics['eval_accuracy']:.3f}" in panel.caption.value


def test_eta_squared_is_switched_off_for_methods_that_do_not_read_it():
    panel = EscapePanel().panel
    for method, disabled in (("dora", True), ("allora", False), ("lora", True)):
        panel.controls["method"].value = method
        assert panel.controls["eta_squared"].disabled == disabled


def test_a_live_run_draws_reports_and_repeats_itself():
    panel = EscapePanel(steps=3, eval_size=16, train_size=64, max_length=24)
    before = pixels(panel.panel)
    results = []
    for _ in range(2):
        panel.live.button.click()
        panel.live.wait(120)
        results.append((panel.live.record.trace, panel.live.record.metrics))
        assert panel.live.status.value == "finished"
        assert panel.live.bar.value == 3
        assert "Live run of ALLoRA" in panel.panel.caption.value
        assert pixels(panel.panel) != before
        assert not panel.live.button.disabled
        assert panel.live.stop.disabled
    assert results[0] == results[1]
    panel.panel.reset.click()
    assert pixels(panel.panel) == before


def test_stop_ends_a_live_run_before_its_last_step():
    panel = EscapePanel(steps=100_000, eval_size=16, train_size=64, max_length=24)
    panel.live.button.click()
    assert panel.live.button.disabled
    panel.live.stop.click()
    panel.live.wait(120)
    assert panel.live.record is None
    assert panel.live.status.value == "stopped"
    assert not panel.live.button.disabled


def test_a_live_run_that_fails_says_why():
    panel = EscapePanel(steps=3, dataset="emotionn", train_size=64)
    panel.live.button.click()
    panel.live.wait(120)
    assert "did you mean 'emotion'" in panel.live.status.value


def test_a_panel_hands_its_values_to_its_function():
    given = []

    def draw(size):
        given.append(size)
        return Figure(), f"size {size}"

    panel = Panel({"size": choice("size", (1, 2, 3), 2)}, draw)
    panel.controls["size"].value = 3
    assert given == [2, 3]
    assert panel.caption.value == "size 3"
    assert panel.picture.value == svg_of(Figure())


def test_a_question_helps_according_to_the_answer():
    question = Question("1 + 1?", {"2": "Yes.", "11": "That is writing, not adding."}, right="2")
    question.check.click()
    assert "Choose an answer" in question.verdict.value
    question.choices.value = "11"
    question.check.click()
    assert question.verdict.value == "<b>Not quite.</b> That is writing, not adding."
    question.choices.value = "2"
    question.check.click()
    assert question.verdict.value == "<b>Right.</b> Yes."


def test_a_question_whose_right_answer_is_missing_is_refused():
    with pytest.raises(ValueError, match="right must be one of"):
        Question("?", {"a": "", "b": ""}, right="c")


def test_a_panel_is_redrawn_by_one_thread_at_a_time():
    inside, most = [], []

    def draw(size):
        inside.append(size)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()
        return Figure(), f"size {size}"

    panel = Panel({"size": choice("size", (1, 2), 1)}, draw)
    threads = [threading.Thread(target=panel.refresh) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 5
    assert max(most) == 1
