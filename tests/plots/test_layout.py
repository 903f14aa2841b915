"""Panels in rows: how many a row, what stands in line with what, and that nothing is cut off."""

import itertools

import pytest
from matplotlib.figure import Figure

from allora_lab.plots.layout import WIDEST, fit_panels, rows_of
from allora_lab.plots.style import EndLabel, label_ends, spread


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        ([5.0], [[0]]),
        ([9.0, 9.0], [[0, 1]]),
        ([5.0, 5.0, 5.0], [[0, 1, 2]]),
        ([6.0, 6.0, 6.0], [[0, 1], [2]]),
        ([5.0] * 4, [[0, 1], [2, 3]]),
        ([5.0] * 5, [[0, 1, 2], [3, 4]]),
        ([5.0] * 6, [[0, 1, 2], [3, 4, 5]]),
        ([5.0, 5.0, 5.0, 9.0, 9.0], [[0, 1], [2, 3], [4]]),
        ([WIDEST / 3 - 0.25] * 3, [[0, 1, 2]]),
        ([WIDEST / 3] * 3, [[0, 1], [2]]),
    ],
)
def test_rows_are_even_and_have_three_panels_only_if_these_are_narrow(widths, expected):
    assert [list(row) for row in rows_of(widths)] == expected


def four(labels=("y", "y", "a very\ntall\nlabel", "y")):
    """Return a figure of four panels of other sizes and labels, put in rows."""
    figure = Figure(figsize=(10, 10))
    for i, label in enumerate(labels):
        axes = figure.add_axes((0.3, 0.3, 0.3 + 0.05 * i, 0.2 + 0.05 * i))
        axes.set_title(f"panel {i}")
        axes.set_ylabel(label)
    fit_panels(figure, "a note")
    return figure


def test_panels_keep_their_sizes_and_stand_in_line():
    figure = four()
    for i, axes in enumerate(figure.axes):
        size = 3 + 0.5 * i, 2 + 0.5 * i
        assert tuple(axes.bbox.size / figure.dpi) == pytest.approx(size)
    first, second, third, fourth = (axes.bbox for axes in figure.axes)
    assert first.y1 == pytest.approx(second.y1)
    assert third.y1 == pytest.approx(fourth.y1)
    assert first.x0 == pytest.approx(third.x0)
    assert second.x0 == pytest.approx(fourth.x0)


def test_no_panel_is_cut_off_or_covers_another_or_the_note():
    figure = four()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes.append(figure.texts[0].get_window_extent())
    for i, box in enumerate(boxes):
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


@pytest.mark.parametrize("count", [15, 40])
def test_crowded_names_stay_beside_the_axes_with_the_gaps_there_is_room_for(count):
    placed = spread([0.01 * i for i in range(count)], gap=0.075)
    assert min(placed) == pytest.approx(0)
    assert max(placed) == pytest.approx(1)
    steps = [b - a for a, b in itertools.pairwise(placed)]
    assert steps == pytest.approx([1 / (count - 1)] * (count - 1))


def test_fifteen_names_are_written_within_the_height_of_the_axes():
    axes = Figure(figsize=(6, 4)).add_subplot()
    label_ends(axes, [EndLabel(1.0, 0.02 * i, f"name {i}", "black") for i in range(15)])
    heights = [text.xyann[1] for text in axes.texts]
    assert min(heights) >= -1e-9
    assert max(heights) <= 1 + 1e-9
    assert heights == sorted(heights)


def test_a_single_name_stands_where_its_curve_ends():
    assert spread([0.3], gap=0.1) == [0.3]
    assert spread([], gap=0.1) == []
