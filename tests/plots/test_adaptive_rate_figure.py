"""The figure of the adaptive function draws what it is given."""

import numpy as np

from allora_lab.experiments.adaptive_rate import (
    NORMS,
    adaptive_rate_content,
    family_curves,
    way_curves,
)
from allora_lab.plots.adaptive_rate import AdaptiveRateDrawing, adaptive_rate_figure


def test_the_figure_draws_the_curves_of_its_content_and_names_both_slopes():
    content = adaptive_rate_content()
    function, family, way = adaptive_rate_figure(content).axes
    drawn = [line.get_ydata() for line in function.lines[1:]]
    for line, values in zip(drawn, content["coefficients"].values(), strict=True):
        np.testing.assert_array_equal(line, values)
    words = {text.get_text() for text in family.texts}
    assert {"ALLoRA", "ALLoRA-OD", "ASF-LoRA", "LoRA × η"} <= words
    assert {"slope 1.00", "slope 0.67"} <= {text.get_text() for text in way.texts}


def test_an_update_moves_curves_labels_and_the_point():
    drawing = AdaptiveRateDrawing(NORMS.tolist())
    for eta_squared in (1.0, 16.0):
        family = family_curves(eta_squared)
        figure = drawing.update(family, way_curves(eta_squared), (2.0, 0.5, 7.0))
        left, right = figure.axes
        heights = [line.get_ydata() for line in left.lines]
        assert any(np.array_equal(height, family["allora"]) for height in heights)
        assert left.get_ylim()[1] > eta_squared**0.5
        assert (len(left.texts), len(right.texts)) == (4, 3)
    assert [axes.lines[-1].get_xdata()[0] for axes in (left, right)] == [2.0, 7.0]
