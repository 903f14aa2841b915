"""Every control of the ripple panel is moved to both ends; picture and caption follow."""

import pytest

from allora_lab.experiments.ripple import ripple_content
from allora_lab.experiments.ripple_records import recorded_ripples
from allora_lab.panels.ripple import MODEL, RipplePanel


@pytest.fixture(scope="module")
def shared():
    return RipplePanel()


@pytest.fixture
def panel(shared):
    shared.reset.click()
    return shared


def ends(control):
    values = [value for _, value in control._options_full]
    return values[0], values[-1]


@pytest.mark.parametrize("name", ["architecture", "scaling", "depth", "ratio", "alignment"])
def test_picture_and_caption_follow_every_control_to_both_ends(panel, name):
    seen = set()
    for end in ends(panel.controls[name]):
        panel.controls[name].value = end
        seen.add((panel.picture.value, panel.caption.value))
        if name != "architecture":
            assert f"{end:g}" in panel.caption.value
    assert len(seen) == 2


def test_the_caption_says_that_random_adapters_stay_far_below_the_bound(panel):
    panel.controls["scaling"].value = 2.0
    assert "allow the output to grow 7.92 × 10⁴ times" in panel.caption.value
    found = ripple_content()["stacks"]["multi-linear"]["random"][-1]  # the figure's number
    assert f"random ones of rank 4 grow it {found:.3g} times" in panel.caption.value


def test_a_layernorm_after_every_layer_undoes_aligned_adapters(panel):
    panel.controls["architecture"].value = "post-layernorm"
    assert "grow it 1 times and move it by 0 times its length" in panel.caption.value
    panel.controls["alignment"].value = 0.5
    assert "grow it 1 times and move it by 0 times its length" not in panel.caption.value


def test_the_recorded_model_shows_its_records_and_leaves_only_the_scaling_to_choose(panel):
    panel.controls["architecture"].value = MODEL
    for name in ("depth", "ratio", "alignment"):
        assert panel.controls[name].disabled
    records = recorded_ripples()
    for index, scaling in ((2, 1.0), (6, 16.0)):
        panel.controls["scaling"].value = scaling
        mean = sum(r.scaled[index]["accuracy"] for r in records) / len(records)
        assert f"Accuracy {mean:.3f}" in panel.caption.value
    panel.controls["architecture"].value = "residual"
    assert not panel.controls["depth"].disabled


def test_without_records_the_panel_says_how_to_make_them(monkeypatch, tmp_path):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    panel = RipplePanel()
    panel.controls["architecture"].value = MODEL
    assert "record_all()" in panel.caption.value


def test_reset_puts_controls_picture_and_caption_back(panel):
    before = panel.values(), panel.picture.value, panel.caption.value
    panel.controls["architecture"].value = MODEL
    panel.controls["scaling"].value = 16.0
    panel.reset.click()
    assert (panel.values(), panel.picture.value, panel.caption.value) == before
