"""The pictures hold the numbers they are given, and the surface is turned as it should be."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from allora_lab.plots.hessian import FLOOR, hessian_figure
from allora_lab.plots.landscape import (
    BLUE,
    HEIGHT,
    ORANGE,
    LandscapeDrawing,
    project,
    quadrilaterals,
)
from allora_lab.plots.spectrum import SpectrumDrawing

FEW = {"n": 1, "d_in": 3, "eigenvalues": [8.0, 0.0, 0.0], "edges": [1.0, 15.0]}
FEW |= {"rank": 2, "size": 6}
SQUARE = {**FEW, "n": 3, "eigenvalues": [9.0, 4.0, 0.5], "rank": 6}
ZERO = {"scale": 0.0, "eigenvalues": [-3.0, 0.0, 3.0], "gradient_B": 0.0}
START = {"scale": 1.0, "eigenvalues": [-2.0, 0.0, 5.0], "gradient_B": 7.25}
CONTENT = {
    "d_in": 3,
    "d_out": 2,
    "spectra": [FEW, SQUARE, {**SQUARE, "n": 9}],
    "conditioning": {"n": [2, 3, 6], "median": [4.0, 90.0, 5.0], "predicted": [6.0, None, 7.0]},
    "landscape": [ZERO, START],
    "escape": {
        "scales": [0.1, 1.0],
        "times": [6.0, 2.0],
        "full_time": 0.5,
        "expected_slope": 1.5,
    },
}


def lines(axes):
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()]


def words(figure):
    return [t.get_text() for axes in figure.axes for t in axes.texts]


def test_the_figure_draws_the_numbers_it_is_given():
    spectra, condition, joint, escape = hessian_figure(CONTENT).axes
    assert ([1], [8.0]) in lines(spectra)
    assert ([2, 3], [FLOOR, FLOOR]) in lines(spectra)
    assert lines(condition)[0] == ([2, 3, 6], [4.0, 90.0, 5.0])
    assert [line[1] for line in lines(joint)[1:]] == [[-3, 0, 3], [-2, 0, 5]]
    assert ([0.1, 1.0], [12.0, 4.0]) in lines(escape)  # in units of full fine-tuning's time
    law = lines(escape)[0][1]
    assert law == pytest.approx([12.0, 12.0 - 1.5 * np.log(10) / 0.5])


def test_the_figure_says_what_is_flat_and_what_is_not_level():
    said = words(hessian_figure(CONTENT))
    assert "n = 1: 2 at 0" in said
    assert "n = 3" in said
    assert "LoRA's start:\n‖∇B‖ = 7.2" in said
    assert "LoRA's own A: 4.0" in said


def test_the_panel_draws_zeros_apart_and_times_on_the_right():
    drawing = SpectrumDrawing()
    figure = drawing.update(FEW, ZERO, START)
    convex, joint, times = figure.axes
    assert ([1], [8.0]) in lines(convex)
    assert [x for x, _ in lines(convex)[1:]] == [[2, 3]]
    assert [line[1] for line in lines(joint)[1:]] == [[-3, 0, 3], [-2, 0, 5]]
    assert "2 of 3 at 0: they never move" in words(figure)
    assert "at (A, B = 0): ‖∇B‖ = 7.25" in words(figure)
    assert convex.get_title(loc="left") == "In V: rank 2 of 6"
    # the same height means h on the left and ln(100)/h on the right
    low, high = convex.get_ylim()
    assert np.array(times.get_ylim()) * [low, high] == pytest.approx([np.log(100)] * 2)


def test_a_second_update_leaves_nothing_of_the_first():
    drawing = SpectrumDrawing()
    drawing.update(FEW, ZERO, START)
    figure = drawing.update(SQUARE, START, ZERO)
    assert lines(figure.axes[0])[:2] == [([1, 2, 3], [9.0, 4.0, 0.5]), ([], [])]
    assert not any("never move" in word for word in words(figure))


def test_turning_by_hand():
    x_axis, z_axis = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    assert project(x_axis, 0, 0) == pytest.approx([1, 0, 0])
    assert project(x_axis, 90, 0) == pytest.approx([0, 0, 1])  # now it points away
    assert project(x_axis, 90, 90) == pytest.approx([0, 1, 0])  # seen from above: up the screen
    assert project(z_axis, 33, 0) == pytest.approx([0, 1, 0])
    assert project(z_axis, 33, 90) == pytest.approx([0, 0, -1])  # seen from above: towards us


def test_turning_keeps_lengths():
    points = np.random.default_rng(0).normal(size=(5, 3))
    turned = project(points, 40, 25)
    assert np.linalg.norm(turned, axis=1) == pytest.approx(np.linalg.norm(points, axis=1))


def test_cells_go_around_their_corners():
    x, y = np.meshgrid([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], indexing="ij")
    cells = quadrilaterals(np.stack([x, y, x * y], axis=-1))
    assert cells.shape == (4, 4, 3)
    assert cells[0, :, :2].tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]


def surface(azimuth=0.0, elevation=0.0):
    steps = np.array([-1.0, 0.0, 1.0])
    losses = np.array([[1.0, 2.0, 1.0], [1.0, 4.0, 1.0], [1.0, 3.0, 1.0]])
    drawing = LandscapeDrawing()
    figure = drawing.update(
        steps,
        losses,
        slopes=(0.5, 0.0),
        names=("down", "up"),
        azimuth=azimuth,
        elevation=elevation,
        title="A title",
    )
    return figure, figure.axes[0].collections[0]


def test_the_surface_has_every_cell_and_two_coloured_lines_through_the_point():
    figure, cells = surface()
    assert len(cells.get_paths()) == 4 + 2 + 2
    assert sorted(set(cells.get_linewidth())) == [0.4, 2.5]
    thick = [
        (to_hex(colour).upper(), np.ptp(path.vertices[:, 0]))
        for path, colour, w in zip(
            cells.get_paths(), cells.get_edgecolor(), cells.get_linewidth(), strict=True
        )
        if w > 1
    ]
    # seen along the base the first direction runs across the screen, the second away from us
    assert sorted(thick) == [(BLUE, 0), (BLUE, 0), (ORANGE, 1), (ORANGE, 1)]
    heights = np.concatenate([path.vertices[:, 1] for path in cells.get_paths()])
    assert heights.max() == pytest.approx(HEIGHT)
    assert heights.min() == pytest.approx(HEIGHT / 4)
    assert words(figure) == ["up", "down"]


def test_what_is_far_is_drawn_first():
    _, cells = surface(azimuth=0, elevation=30)
    wide = [path for path, w in zip(cells.get_paths(), cells.get_linewidth(), strict=True) if w < 1]
    flat = [path.vertices[:4, 0].mean() for path in wide]
    assert sorted(flat) == pytest.approx([-0.5, -0.5, 0.5, 0.5])
    # the two cells with y > 0 come before the two with y < 0: their lowest corners lie higher up
    assert min(path.vertices[:, 1].min() for path in wide[:2]) > min(
        path.vertices[:, 1].min() for path in wide[2:]
    )


def test_the_cuts_are_the_middle_row_and_column_with_their_tangents():
    figure, _ = surface()
    cuts = lines(figure.axes[1])
    assert cuts[0] == ([-1, 0, 1], [2, 4, 3])  # along the first direction: down the rows
    assert cuts[1] == ([-1, 0, 1], [1, 4, 1])
    (x0, x1), (y0, y1) = cuts[2]
    assert (y1 - y0) / (x1 - x0) == pytest.approx(0.5)
    assert figure.axes[1].get_title(loc="left") == "A title"
