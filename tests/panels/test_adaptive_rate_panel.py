"""Both controls of the panel are moved to both ends; picture and caption follow."""

import pytest

from allora_lab.panels.adaptive_rate import AdaptiveRatePanel


@pytest.mark.parametrize("name", ["eta_squared", "row_norm"])
def test_picture_and_caption_follow_both_controls_to_both_ends(name):
    panel = AdaptiveRatePanel()
    values = [value for _, value in panel.controls[name]._options_full]
    seen = set()
    for end in (values[0], values[-1]):
        panel.controls[name].value = end
        seen.add((panel.picture.value, panel.caption.value))
        assert f"{end:g}" in panel.caption.value
    assert len(seen) == 2


def test_the_caption_gives_the_factor_and_the_exponent():
    panel = AdaptiveRatePanel()
    panel.controls["row_norm"].value = 0.25
    assert "gradient by 1.41" in panel.caption.value  # 1 / √(0.25 + 0.25)
    assert "exponent -0.25" in panel.caption.value
    assert "(a fixed scale: 2)" in panel.caption.value


def test_the_factor_in_the_caption_is_that_of_the_chosen_eta_squared():
    panel = AdaptiveRatePanel()
    panel.controls["row_norm"].value = 0.5
    panel.controls["eta_squared"].value = 2.0
    assert "gradient by 1 " in panel.caption.value  # 1 / √(0.5 + 0.5)
    panel.controls["eta_squared"].value = 16.0
    assert "gradient by 1.33" in panel.caption.value  # 1 / √(0.5 + 0.0625)
