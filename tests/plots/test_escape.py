import itertools

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from allora_lab.methods import METHODS
from allora_lab.plots.escape import Curve, draw_curves, escape_figure
from allora_lab.plots.style import COLOURS, RC, spread

RUN = {
    "method": "allora",
    "optimizer": "adamw",
    "lr": 1e-3,
    "steps": [0, 1, 2],
    "row_norm_mean": [0.0, 0.1, 0.4],
}


def lines(axes):
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()]


def test_the_curves_drawn_are_the_numbers_of_the_runs():
    sgd = {**RUN, "optimizer": "sgd", "lr": 0.1, "row_norm_mean": [0.0, 0.2, 0.3]}
    figure = escape_figure([RUN, sgd])
    assert lines(figure.axes[0]) == [([1, 2], [0.2, 0.3])]
    assert lines(figure.axes[1]) == [([1, 2], [0.1, 0.4])]


def test_linear_axes_start_at_zero_where_the_rows_do():
    axes = Figure().add_subplot()
    draw_curves(axes, [Curve([0, 1], [0.0, 2.0], "x", "black")], floor=1e-3, is_log=False)
    assert lines(axes) == [([0, 1], [0.0, 2.0])]
    assert axes.get_ylim()[0] == 0


def test_a_method_has_one_colour_and_another_rate_is_dashed_and_named():
    figure = escape_figure([{**RUN, "method": "lora"}, {**RUN, "method": "lora", "lr": 2e-3}])
    slow, fast = figure.axes[1].get_lines()
    assert slow.get_color() == fast.get_color() == COLOURS["lora"]
    assert (slow.get_linestyle(), fast.get_linestyle()) == ("-", "--")
    assert [t.get_text() for t in figure.axes[1].texts] == ["LoRA", "LoRA at 2 × lr"]


def test_every_method_has_a_colour_of_its_own():
    assert COLOURS.keys() == METHODS.keys()
    assert len(set(COLOURS.values())) == len(COLOURS)


@pytest.mark.parametrize("positions", [[0.5, 0.5, 0.5], [0.0, 0.01, 1.0], [0.99, 1.0], [0.3]])
def test_labels_keep_their_order_and_their_distance(positions):
    placed = spread(positions, gap=0.1)
    assert sorted(range(len(placed)), key=placed.__getitem__) == sorted(
        range(len(positions)), key=positions.__getitem__
    )
    ordered = sorted(placed)
    assert all(b - a > 0.1 - 1e-9 for a, b in itertools.pairwise(ordered))
    assert max(placed) <= 1.0
    assert min(placed) >= 0.0


def test_drawing_changes_no_global_setting():
    before = {key: mpl.rcParams[key] for key in RC}
    escape_figure([RUN])
    assert {key: mpl.rcParams[key] for key in RC} == before
