"""What is drawn is what the content says: curves, factors, histograms, labels, notes."""

import numpy as np
import pytest

from allora_lab.plots.gradient_variance import gradient_variance_figure
from allora_lab.plots.variance_panel import LIMITS, VarianceDrawing, VarianceView

EPOCHS = [0, 1, 2, 3]
NAMES = ("q01", "q10", "q50", "q90", "q99", "mean", "max")
EDGES = np.round(np.arange(-8.0, 1.01, 0.1), 1).tolist()


def curves(scale=1.0):
    return {
        name: [scale * 1e-4 * 3**i * (1 + 0.1 * e) for e in EPOCHS] for i, name in enumerate(NAMES)
    }


def content(note=""):
    change = [{"factor": 1.1 * e, "low": 0.9 * e, "high": 1.3 * e} for e in EPOCHS[1:]]
    row = {
        "label": "Digits",
        "note": note,
        "seeds": [0, 1, 2],
        "config": {"dropout": 0.5, "width": 64},
        "epochs": EPOCHS,
        "curves": curves(),
        "changes_since_start": dict.fromkeys(("mean", "max", "gradient_norm"), change),
    }
    return {"datasets": [row, {**row, "label": "Photographs"}]}


def texts(figure):
    axes_texts = [t.get_text() for axes in figure.axes for t in axes.texts]
    return axes_texts + [t.get_text() for t in figure.texts]


def test_the_figure_has_a_column_a_set_and_draws_its_numbers():
    figure = gradient_variance_figure(content())
    assert len(figure.axes) == 4
    above, below = figure.axes[0], figure.axes[1]
    drawn = {tuple(np.round(line.get_ydata(), 12)) for line in above.lines}
    for name in ("max", "mean", "q50"):
        assert tuple(np.round(curves()[name], 12)) in drawn
    assert any(
        list(line.get_ydata()) == [1.0, 1.1, 2.2, pytest.approx(3.3)] for line in below.lines
    )
    assert above.get_title(loc="left") == "Digits: dropout 0.5, width 64, 3 seeds"
    assert {"largest", "mean", "median", "99 %", "1 %"} <= set(texts(figure))


def test_the_note_on_the_images_stands_beside_the_figure():
    figure = gradient_variance_figure(content("a lossy copy"))
    assert any("Photographs: a lossy copy." in text for text in texts(figure))
    assert not any("lossy" in text for text in texts(gradient_variance_figure(content())))


@pytest.fixture
def view():
    histograms = [np.eye(90, dtype=int)[40 + e] * 7 for e in EPOCHS]
    return VarianceView(EPOCHS, curves(), [h.tolist() for h in histograms])


def stairs(drawing):
    """Return the heights of the two histograms: the start's, and the chosen epoch's."""
    return [patch.get_data().values for patch in drawing.figure.axes[1].patches]


def test_the_histogram_is_of_the_epoch_chosen_in_percent(view):
    drawing = VarianceDrawing(20, EDGES)
    drawing.update(view, 2)
    start, now = stairs(drawing)
    low = round((np.log10(LIMITS[0]) + 8) * 10)
    assert (start.argmax(), now.argmax()) == (40 - low, 42 - low)
    assert start.max() == now.max() == 100
    assert len(now) == 50  # five decades


def test_an_epoch_after_the_last_recorded_one_shows_the_last(view):
    drawing = VarianceDrawing(20, EDGES)
    drawing.update(view, 20)
    late = stairs(drawing)[1].copy()
    drawing.update(view, 3)
    np.testing.assert_array_equal(stairs(drawing)[1], late)


def test_nothing_recorded_says_so_and_a_record_takes_its_place(view):
    drawing = VarianceDrawing(20, EDGES)
    axes = drawing.figure.axes[0]
    drawing.update(VarianceView((), {}, ()), 5)
    shown = [t.get_text() for t in axes.texts if t.get_visible()]
    assert shown == ["not recorded"]
    assert not any(line.get_visible() for line in axes.lines[:3])
    drawing.update(view, 1)
    assert "not recorded" not in [t.get_text() for t in axes.texts if t.get_visible()]
    assert all(line.get_visible() for line in axes.lines[:3])


def test_live_points_come_and_go(view):
    drawing = VarianceDrawing(20, EDGES)
    drawing.update(view, 1, {"epoch": [0, 1], "mean": [1e-3, 2e-3], "max": [1e-2, 3e-2]})
    points = [tuple(line.get_ydata()) for line in drawing.figure.axes[0].lines]
    assert (1e-3, 2e-3) in points
    assert (1e-2, 3e-2) in points
    drawing.update(view, 1)
    assert (1e-3, 2e-3) not in [tuple(x.get_ydata()) for x in drawing.figure.axes[0].lines]


def test_names_stand_apart_and_in_the_order_of_their_curves(view):
    drawing = VarianceDrawing(20, EDGES)
    drawing.update(view, 0)
    places = {
        t.get_text(): t.get_position()[1] for t in drawing.figure.axes[0].texts if t.get_visible()
    }
    assert places["1 %"] < places["median"] < places["99 %"] < places["mean"] < places["largest"]
    heights = sorted(places.values())
    assert min(np.diff(heights)) > 0.06


def test_quantiles_of_zero_are_drawn_below_the_axes_not_refused(view):
    flat = {**view.curves, "q01": [0.0] * 4}
    drawing = VarianceDrawing(20, EDGES)
    drawing.update(VarianceView(EPOCHS, flat, view.histograms), 0)
    lowest = drawing.figure.axes[0].patches[0].get_xy()[:, 1].min()
    assert 0 < lowest < LIMITS[0]
