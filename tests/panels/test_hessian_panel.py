"""Every control of both panels is moved to both ends; picture and words follow."""

import pytest

from allora_lab.panels.hessian import HessianPanel
from allora_lab.panels.landscape import LandscapePanel


def values(control):
    return [v[1] if isinstance(v, tuple) else v for v in control._options_full]


def ends(panel, name):
    """Return picture and caption with a control at its first and at its last value."""
    options, shown = values(panel.controls[name]), []
    for value in (options[0], options[-1]):
        panel.controls[name].value = value
        shown.append((panel.picture.value, panel.caption.value))
    return shown


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("n", ("n = 2 samples", "n = 128 samples")),
        ("d", ("d = 8 inputs", "d = 32 inputs")),
        ("r", ("r = 1", "r = 8")),
        ("scale", ("scale 0,", "scale 3,")),
    ],
)
def test_hessian_panel_follows_every_control_to_both_ends(name, words):
    (first, told), (last, told_last) = ends(HessianPanel(), name)
    assert first != last
    assert words[0] in told
    assert words[1] in told_last


def test_fewer_samples_than_inputs_are_told_as_directions_that_never_move():
    panel = HessianPanel()
    panel.controls["d"].value, panel.controls["n"].value = 16, 4
    assert "rank 20 of 80: 12 of 16 directions, 5 times each, never move" in panel.caption.value
    panel.controls["n"].value = 16
    assert "full rank 80" in panel.caption.value
    assert "never move" not in panel.caption.value


def test_only_a_scale_of_zero_is_called_a_saddle():
    panel = HessianPanel()
    for scale in values(panel.controls["scale"]):
        panel.controls["scale"].value = scale
        assert ("this is a saddle" in panel.caption.value) == (scale == 0)
        assert ("this is no saddle" in panel.caption.value) == (scale > 0)


@pytest.mark.parametrize("name", ["view", "scale", "azimuth", "elevation"])
def test_landscape_panel_follows_every_control_to_both_ends(name):
    (first, told), (last, told_last) = ends(LandscapePanel(), name)
    assert first != last
    assert (told != told_last) == (name in ("view", "scale"))  # turning changes no number


def test_landscape_panel_tells_saddle_slope_and_trough_apart():
    panel = LandscapePanel()
    for view, scale, kind in (
        ("A and B", 0.0, "a saddle"),
        ("A and B", 1.0, "no saddle"),
        ("toy", 0.0, "a saddle"),
        ("toy", 1.5, "no saddle"),
        ("V", 1.5, "on the wall of a trough"),
    ):
        panel.controls["view"].value, panel.controls["scale"].value = view, scale
        assert f"The black point is {kind}" in panel.caption.value


def test_the_scale_of_A_is_switched_off_where_there_is_no_A():
    panel = LandscapePanel()
    for view, disabled in (("V", True), ("A and B", False), ("toy", False)):
        panel.controls["view"].value = view
        assert panel.controls["scale"].disabled == disabled


@pytest.mark.parametrize("kind", [HessianPanel, LandscapePanel])
def test_reset_puts_everything_back(kind):
    panel = kind()
    before = panel.values(), panel.picture.value, panel.caption.value
    for control in panel.controls.values():
        control.value = values(control)[-1]
    assert panel.caption.value != before[2]
    panel.reset.click()
    assert (panel.values(), panel.picture.value, panel.caption.value) == before
