"""Panels over records: no position of their controls is without a record."""

import random

import ipywidgets as widgets
import pytest
from IPython.display import Image
from matplotlib.figure import Figure

from allora_lab.panels.allocation import AllocationPanel
from allora_lab.panels.base import choice, menu
from allora_lab.panels.escape import EscapePanel
from allora_lab.panels.recorded import RecordedPanel
from allora_lab.panels.still import still

RECORDED = {("a", 1, 5), ("a", 1, 6), ("a", 2, 6), ("b", 2, 5)}


@pytest.fixture
def given():
    return []


@pytest.fixture
def panel(given):
    def draw(**values):
        given.append((values["letter"], values["first"], values["second"]))
        return Figure(), f"{values}"

    controls = {
        "letter": menu("letter", {"A": "a", "B": "b"}, "a"),
        "first": choice("first", (1, 2, 3), 1),
        "second": choice("second", (5, 6), 5),
        "look": choice("look", (0, 1), 0),
    }
    return RecordedPanel(controls, draw, RECORDED, ("letter", "first", "second"))


def offered(control):
    return [value for _, value in control._options_full]


def test_a_control_offers_what_is_recorded_for_the_controls_before_it(panel):
    assert offered(panel.controls["letter"]) == ["a", "b"]
    assert offered(panel.controls["first"]) == [1, 2]
    assert offered(panel.controls["second"]) == [5, 6]
    assert offered(panel.controls["look"]) == [0, 1]


def test_later_controls_move_to_what_is_recorded_and_a_single_value_is_switched_off(panel, given):
    panel.controls["first"].value = 2
    assert (panel.controls["second"].value, panel.controls["second"].disabled) == (6, True)
    panel.controls["letter"].value = "b"
    assert (panel.controls["first"].value, panel.controls["first"].disabled) == (2, True)
    assert panel.controls["second"].value == 5
    assert set(given) <= RECORDED
    assert len(given) == 3, "one picture per move"


def test_reset_leads_back_from_where_the_start_is_not_offered(panel):
    before = panel.values(), offered(panel.controls["first"])
    panel.controls["letter"].value = "b"
    panel.reset.click()
    assert (panel.values(), offered(panel.controls["first"])) == before


def test_without_records_every_value_is_offered(given):
    control = widgets.Dropdown(options=[1, 2, 3], value=2)
    panel = RecordedPanel({"n": control}, lambda n: (Figure(), str(n)), (), ("n",))
    assert offered(panel.controls["n"]) == [1, 2, 3]
    assert not control.disabled


@pytest.mark.parametrize("build", [EscapePanel, AllocationPanel])
def test_no_position_that_can_be_reached_is_without_a_record(build):
    panel, draw = build().panel, random.Random(0)
    for _ in range(60):
        free = [control for control in panel.controls.values() if not control.disabled]
        control = draw.choice(free)
        control.value = draw.choice(offered(control))
        assert "no run of this setting" not in panel.caption.value, panel.words()


def test_a_still_is_the_panels_picture_at_some_values(panel):
    image = still(panel, letter="b", look=1)
    assert isinstance(image, Image)
    assert image.alt == panel.words()
    assert panel.values() == {"letter": "b", "first": 2, "second": 5, "look": 1}
