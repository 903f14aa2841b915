"""The pictures hold the numbers they are given."""

import pytest

from allora_lab.panels.base import svg_of
from allora_lab.plots.dropout_drawing import DropoutDrawing, is_ridge, noise_to_effect
from allora_lab.plots.dropout_ols import dropout_ols_figure

FIXED = {"std": 6.0, "added": 3.0, "sizes": [1, 4], "errors": [4.5, 2.1]}
MOVING = {"steps": [2, 10, 10000], "spread": [8.0, 3.0, 0.5], "effect": [1.0, 2.0, 5.0]}
SHRINKAGE = {"eigenvalues": [9.0, 1.0], "shares": [0.8, 0.3], "lam": 1.0, "distance": 0.21}
CASE = {"fixed": FIXED, "moving": MOVING, "shrinkage": SHRINKAGE}
OTHER = {
    "fixed": {**FIXED, "std": 3.0, "errors": [2.0, 1.0]},
    "moving": {**MOVING, "spread": [4.0, 1.0, 0.25]},
    "shrinkage": {"eigenvalues": [4.0, 4.0], "shares": [0.5, 0.5], "lam": 4.0, "distance": 1e-9},
}
CONTENT = {
    "setting": {"r": 3},
    "sampled": {**FIXED, "sizes": [1, 100]},
    "cases": {
        p: {"not_whitened": {**CASE, "shrinkage": {**SHRINKAGE, "rank_alone": alone}}}
        for p, alone in (("output", 0.0), ("bottleneck", 0.11), ("input", 0.0))
    },
    "slower": {**MOVING, "spread": [16.0, 5.0, 0.2]},
    "fixed_time": {"steps": [10, 1000], "ratios": [0.2, 0.02]},
    "averaged_runs": {"groups": [1, 4], "ratios": [0.1, 0.05]},
}


def lines(axes):
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()]


def words(figure):
    return [t.get_text() for axes in figure.axes for t in axes.texts]


def test_noise_is_the_spread_over_the_effect():
    assert noise_to_effect(MOVING) == [8.0, 1.5, 0.1]


def test_a_ridge_is_what_is_within_a_thousandth_of_one():
    assert is_ridge({"distance": 9e-4})
    assert not is_ridge({"distance": 1.1e-3})


def test_the_panel_draws_bound_limit_samples_and_runs():
    left, _ = DropoutDrawing().update(CASE, 10).axes
    drawn = lines(left)
    assert ([1, 10000], [2.0, 0.02]) in drawn  # Std / √N over what dropout adds
    assert drawn[2][1] == pytest.approx([2 * 0.7978846, 0.02 * 0.7978846])
    assert drawn[3][1] == pytest.approx([1.5, 0.7])
    assert ([2, 10, 10000], [8.0, 1.5, 0.1]) in drawn
    assert drawn[-1][0] == [10, 10]
    assert drawn[-1][1] == pytest.approx([2 * 0.7978846 / 10**0.5, 1.5])


def test_before_the_effect_begins_only_the_fixed_W_is_marked():
    left, _ = DropoutDrawing().update(CASE, 1).axes
    assert lines(left)[-1][0] == [1]


def test_the_panel_draws_shares_ridge_and_the_gaps_between():
    right = DropoutDrawing().update(CASE, 10).axes[1]
    assert ([9.0, 1.0], [0.8, 0.3]) in lines(right)
    gaps = [segment.tolist() for segment in right.collections[0].get_segments()]
    assert gaps == [[[9.0, 0.9], [9.0, 0.8]], [[1.0, 0.5], [1.0, 0.3]]]
    h, curve = lines(right)[1]
    assert curve == pytest.approx([x / (x + 1) for x in h])
    assert right.get_title(loc="left") == "On average: no ridge"


def test_a_second_update_leaves_nothing_of_the_first():
    drawing = DropoutDrawing()
    drawing.update(CASE, 10)
    figure = drawing.update(OTHER, 1)
    fresh = DropoutDrawing().update(OTHER, 1)
    for mine, theirs in zip(figure.axes, fresh.axes, strict=True):
        assert lines(mine) == lines(theirs)
        assert mine.get_title(loc="left") == theirs.get_title(loc="left")
    assert words(figure) == words(fresh)
    assert "— nearest ridge, λ = 4" in words(figure)


def test_the_figure_draws_the_numbers_it_is_given():
    figure = dropout_ols_figure(CONTENT)
    svg_of(figure)  # labels and ticks can be drawn
    misses, shares, runs, rates = figure.axes
    assert ([1, 100], [6.0, 0.6]) in lines(misses)
    assert ([1, 100], [4.5, 2.1]) in lines(misses)
    assert lines(shares).count(([9.0, 1.0], [0.8, 0.3])) == 3
    assert ([2, 10, 10000], [8.0, 1.5, 0.1]) in lines(runs)
    assert ([2, 10, 10000], [16.0, 2.5, 0.04]) in lines(runs)
    assert ([10, 1000], [0.2, 0.02]) in lines(rates)
    laws = [y for x, y in lines(rates) if len(y) == 2]
    assert laws[1] == pytest.approx([0.2, 0.02])
    assert laws[3] == pytest.approx([0.1, 0.05])


def test_the_figure_names_its_curves():
    said = words(dropout_ols_figure(CONTENT))
    for text in (
        "bound Std/√N",
        "output: 21 % off",
        "bottleneck: 21 % off\n(rank 3 alone: 11 %)",
        "lr / 4",
    ):
        assert text in said
