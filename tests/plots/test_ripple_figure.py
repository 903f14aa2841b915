"""The ripple figure draws what it is given, with readable numbers."""

import numpy as np
import pytest

from allora_lab.experiments.ripple import ripple_content
from allora_lab.plots.ripple import (
    CHANGE_AXIS,
    DepthCurve,
    RippleDrawing,
    in_words,
    limits,
    model_curves,
    ripple_figure,
    stack_curves,
)


@pytest.fixture(scope="module")
def content():
    return ripple_content()


def test_numbers_are_written_for_people():
    found = [in_words(v) for v in (0.0, 1e-15, 0.6512, 1.0, 9999, 79228.0, 1.147e59)]
    assert found == ["0", "0", "0.651", "1", "9,999", "7.92 × 10⁴", "1.15 × 10⁵⁹"]


def test_axes_hold_all_that_can_be_shown_and_a_change_of_zero_cannot():
    curves = [DepthCurve([0.0, 0.02, 300.0], "", "black")]
    bottom, top = limits(curves, CHANGE_AXIS)
    assert 0 < bottom < 0.02
    assert top > 300
    assert limits([DepthCurve([0.0], "", "black")], CHANGE_AXIS)[1] > 10


def test_the_figure_draws_the_curves_of_its_content(content):
    figure = ripple_figure(content)
    paper, architectures, model, accuracy = figure.axes
    drawn = [line.get_ydata() for line in paper.lines]
    np.testing.assert_array_equal(drawn[0], content["stacks"]["multi-linear"]["aligned"])
    np.testing.assert_array_equal(drawn[2], content["stacks"]["multi-linear"]["random"])
    assert len(architectures.lines) == 4
    assert "bound, s = 16" in {text.get_text() for text in model.texts}
    means = [np.mean(row["accuracies"]) for row in content["model"]]
    np.testing.assert_allclose(accuracy.lines[-1].get_ydata(), means)


def test_without_records_the_figure_has_the_stacks_alone(content):
    figure = ripple_figure({**content, "model": []})
    assert [len(axes.lines) for axes in figure.axes] == [4, 4, 0, 0]


def test_an_update_replaces_curves_and_labels(content):
    drawing = RippleDrawing()
    found = content["stacks"]["multi-linear"]
    figure = drawing.update(*stack_curves(found, 6, alignment=1.0))
    growth, change = figure.axes
    np.testing.assert_array_equal(growth.lines[2].get_ydata(), found["bound"][:7])
    assert np.isnan(change.lines[0].get_ydata()[0])  # the change is 0 before the first layer
    row = content["model"][-1]
    drawing.update(*model_curves(row))
    np.testing.assert_array_equal(growth.lines[0].get_ydata(), row["growth"])
    assert len(growth.texts) == 3
    assert len(change.texts) == 2
    assert len(change.lines[2].get_ydata()) == 0
