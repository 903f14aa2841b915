"""Every control is moved to both ends; picture and words follow."""

import pytest

from allora_lab.experiments.dropout_case import dropout_case
from allora_lab.panels.dropout_ols import DropoutOLSPanel


def values(control):
    return [v[1] if isinstance(v, tuple) else v for v in control._options_full]


@pytest.fixture
def panel():
    return DropoutOLSPanel()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("keep", ("p = 0.3 (dropout 0.7)", "p = 0.99 (dropout 0.01)")),
        ("n_steps", ("the mean of N = 1 draws", "the mean of N = 10000 draws")),
        ("placement", ("on the output.", "on the input.")),
        ("is_whitened", ("no ridge; the nearest", "exactly the ridge")),
    ],
)
def test_panel_follows_every_control_to_both_ends(panel, name, words):
    options, shown = values(panel.controls[name]), []
    for value in (options[0], options[-1]):
        panel.controls[name].value = value
        shown.append((panel.picture.value, panel.caption.value))
    (first, told), (last, told_last) = shown
    assert first != last
    assert words[0] in told
    assert words[1] in told_last


def test_the_caption_gives_the_numbers_that_are_drawn(panel):
    panel.controls["keep"].value, panel.controls["n_steps"].value = 0.8, 100
    case = dropout_case(placement="output", keep=0.8, is_whitened=False)
    bound = 10 * case["fixed"]["std"] / case["fixed"]["added"]  # % at N = 100
    moving = case["moving"]
    at = moving["steps"].index(100)
    assert f"the bound Std/√N is {bound:.3g} %" in panel.caption.value
    ratio = 100 * moving["spread"][at] / moving["effect"][at]
    assert f"{ratio:.3g} % of what dropout does to that mean" in panel.caption.value
    left = panel.figure.axes[0]
    marked = next(line for line in left.get_lines() if line.get_zorder() == 5)
    assert marked.get_ydata()[-1] == pytest.approx(ratio / 100)


def test_after_one_step_there_is_noise_and_no_effect(panel):
    panel.controls["n_steps"].value = 1
    assert "changed the mean run by nothing" in panel.caption.value


def test_a_bottleneck_is_no_ridge_even_whitened(panel):
    panel.controls["is_whitened"].value = True
    for placement, verdict in (("output", "exactly"), ("input", "exactly"), ("bottleneck", "no")):
        panel.controls["placement"].value = placement
        assert f"{verdict} " in panel.caption.value.split("direction by direction: ")[1][:10]
        title = panel.figure.axes[1].get_title(loc="left")
        assert title == f"On average: {'no' if verdict == 'no' else 'a'} ridge"
    assert "B moves (A frozen)" in panel.caption.value
    assert "for its rank alone" in panel.caption.value


def test_every_value_of_every_control_is_drawn(panel):
    for name, control in panel.controls.items():
        seen = set()
        for value in values(control):
            control.value = value
            seen.add((panel.picture.value, panel.caption.value))
        assert len(seen) == len(values(control)), name


def test_reset_puts_everything_back(panel):
    before = panel.values(), panel.picture.value, panel.caption.value
    for control in panel.controls.values():
        control.value = values(control)[-1]
    assert panel.caption.value != before[2]
    panel.reset.click()
    assert (panel.values(), panel.picture.value, panel.caption.value) == before
