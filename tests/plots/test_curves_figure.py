"""Panels of curves: what stands where, and that nothing that is written is cut off or covered."""

import itertools
import json

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from allora_lab.plots.curves import SEQUENCE, colour_of, curve_axes, curves_figure
from allora_lab.plots.layout import short_number
from allora_lab.plots.style import COLOURS

LINE = {
    "label": "LoRA",
    "colour": "lora",
    "x": [1, 2, 4, 8],
    "mean": [60.0, 70.0, 72.0, 71.0],
    "half": [2.0, 1.0, 0.5, 3.0],
    "marks": [4],
}
PANEL = {"title": "Here", "x_label": "rank", "y_label": "accuracy, %", "x_scale": "log2"}
POINT = {"label": "one point", "colour": "allora", "x": [2], "mean": [65.0], "half": [4.0]}
LONG = {"label": "ALLoRA on the update (ours)", "colour": "allora-update", "half": None}


def figure_of(*panels, **more):
    return curves_figure({"panels": panels, "sentences": [], **more})


def panel_of(*lines, **more):
    return {**PANEL, **more, "lines": lines}


def curves(axes):
    """Return x and y of the lines proper, without marks."""
    drawn = [(list(a.get_xdata()), list(a.get_ydata())) for a in axes.get_lines()]
    return [pair for pair, a in zip(drawn, axes.get_lines(), strict=True) if a.get_ms() < 8]


def written(figure):
    """Return every text with its box after drawing, and the canvas."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += [*axes.texts, axes.xaxis.label, axes.yaxis.label, axes._left_title]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts += [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    shown = [t for t in texts if t.get_text()]
    # an annotation's own box includes its leader
    boxes = [
        super(Annotation, t).get_window_extent()
        if isinstance(t, Annotation)
        else t.get_window_extent()
        for t in shown
    ]
    return [(t.get_text(), box) for t, box in zip(shown, boxes, strict=True)], figure.bbox


def assert_readable(figure):
    """Every text is inside the canvas and overlaps no other."""
    texts, canvas = written(figure)
    assert len(texts) > 3
    for text, box in texts:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= canvas.x1, text
        assert box.y1 <= canvas.y1, text
    for (text, box), (other, its) in itertools.combinations(texts, 2):
        assert not box.overlaps(its), (text, other)


def test_the_line_is_the_means_and_the_band_reaches_half_below_and_above():
    (axes,) = figure_of(panel_of(LINE)).axes
    assert curves(axes) == [(LINE["x"], LINE["mean"])]
    corners = {tuple(c) for c in axes.collections[0].get_paths()[0].vertices.tolist()}
    for x, mean, half in zip(LINE["x"], LINE["mean"], LINE["half"], strict=True):
        assert {(x, mean - half), (x, mean + half)} <= corners
    low, high = axes.get_ylim()
    assert low < 58
    assert high > 74


def test_marks_are_larger_dots_on_the_line_at_the_given_x():
    (axes,) = figure_of(panel_of({**LINE, "marks": [4, 1]})).axes
    line, *marks = axes.get_lines()
    assert [(m.get_xdata()[0], m.get_ydata()[0]) for m in marks] == [(4, 72.0), (1, 60.0)]
    assert all(m.get_ms() > 1.5 * line.get_ms() for m in marks)
    assert {m.get_color() for m in marks} == {COLOURS["lora"]}


def test_a_line_without_halves_has_no_band_and_nothing_is_said_of_one():
    figure = figure_of(panel_of({**LINE, "half": None}), seeds=5)
    assert not figure.axes[0].collections
    assert "band" not in " ".join(t.get_text() for t in figure.texts)


def test_the_band_is_explained_where_the_number_of_seeds_is_known():
    said = [t.get_text() for t in figure_of(panel_of(LINE), seeds=5, note="dot: best").texts]
    assert said == ["band: 95 % interval of the mean over 5 seeds; dot: best"]
    assert [t.get_text() for t in figure_of(panel_of(LINE)).texts] == [""]


def test_a_single_point_is_seen_and_its_interval_is_a_bar():
    figure = figure_of(panel_of(POINT))
    (axes,) = figure.axes
    (bar,) = axes.collections[0].get_segments()
    assert bar.tolist() == [[2, 61], [2, 69]]
    assert any(line.get_marker() == "o" for line in axes.get_lines())
    assert_readable(figure)


def test_unknown_means_are_gaps_and_the_name_stands_at_the_last_known_point():
    line = {**LINE, "mean": [60.0, None, 72.0, None], "half": [1.0, None, 2.0, None], "marks": []}
    (axes,) = figure_of(panel_of(line)).axes
    ((_, means),) = (c for c in curves(axes) if len(c[0]) == 4)
    assert np.isnan(means).tolist() == [False, True, False, True]
    assert len(axes.collections[0].get_segments()) == 2  # both stand alone: bars
    assert axes.texts[0].xy == (4, 72.0)


def test_names_at_the_ends_are_in_the_lines_colours():
    lines = [LINE, {**LINE, "label": "p = 0", "colour": 0}, {**LINE, "colour": "paper"}]
    (axes,) = figure_of(panel_of(*lines)).axes
    drawn = [a for a in axes.get_lines() if a.get_ms() < 8]
    assert [a.get_color() for a in drawn] == [t.get_color() for t in axes.texts]
    assert [t.get_text() for t in axes.texts] == ["LoRA", "p = 0", "LoRA"]
    assert [a.get_linestyle() for a in drawn] == ["-", "-", "--"]


def test_the_sequence_goes_from_light_to_dark_and_is_seen_on_white():
    linear = np.array([to_rgb(colour) for colour in SEQUENCE])
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    contrast = 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)  # WCAG 2, to white
    assert contrast[0] >= 3
    assert (contrast[1:] / contrast[:-1] > 1.25).all()
    assert [colour_of(place) for place in range(6)] == list(SEQUENCE)


@pytest.mark.parametrize(
    ("scale", "x", "ticks"),
    [
        ("log2", [4, 8, 16, 32, 64], ["4", "8", "16", "32", "64"]),
        ("log2", [5e-4, 1e-3, 2e-3, 4e-3], ["0.0005", "0.001", "0.002", "0.004"]),
        ("log10", [1e-4, 0.01, 0.011, 10], ["0.0001", "0.01", "10"]),
        ("log10", [1e-6, 1e-3, 1], ["10⁻⁶", "0.001", "1"]),
        ("linear", [3, 10], ["3", "10"]),
        ("linear", [0, 0.01, 0.2, 0.4], ["0", "0.2", "0.4"]),
    ],
)
def test_ticks_stand_at_the_points_that_have_room(scale, x, ticks):
    line = {**LINE, "x": x, "mean": [70.0] * len(x), "half": None, "marks": []}
    (axes,) = figure_of(panel_of(line, x_scale=scale)).axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ticks
    assert axes.get_xscale() == ("linear" if scale == "linear" else "log")


def test_panels_that_share_y_have_the_same_limits_and_others_their_own():
    low = {**LINE, "mean": [20.0, 21.0, 22.0, 23.0]}
    panels = [panel_of(LINE, share_y=True), panel_of(low, share_y=True), panel_of(low)]
    one, two, three = (axes.get_ylim() for axes in figure_of(*panels).axes)
    assert one == two
    assert one[0] < 18
    assert one[1] > 74
    assert three[1] < 30


def crowded():
    """Return panels whose names would cover each other, with all that makes labels long."""
    near = [
        {**LINE, "label": f"{label}", "colour": colour, "mean": [60, 61, 62, 70 + i / 100]}
        for i, (label, colour) in enumerate((key, key) for key in COLOURS)
    ]
    two_lines = {**LINE, "label": "above\nbelow", "colour": 5, "mean": [60, 61, 62, 70.05]}
    tiny = {**LINE, "mean": [1e-7, 2e-7, 3e-7, 4e-7], "half": None}
    large = {**LINE, "x": [1e5, 5e5, 1e6, 2e6], "mean": [1e8, 2e8, 3e8, 4e8], "marks": []}
    return [
        panel_of(*near, two_lines, title="A title that is far too long for one line of one panel"),
        panel_of({**LINE, **LONG}, tiny, x_scale="log10"),
        panel_of({**large, "half": None}, x_scale="linear"),
    ]


def test_no_text_is_cut_off_or_covered():
    assert_readable(figure_of(*crowded(), seeds=5, note="a note. " * 40))


@pytest.mark.parametrize("count", [1, 2])
def test_the_axes_keep_their_size_however_many_stand_side_by_side(count):
    figure = figure_of(*[panel_of(LINE, {**LINE, **LONG})] * count)
    for axes in figure.axes:
        assert (axes.bbox.size / figure.dpi).tolist() == pytest.approx([4.2, 3.4])
    assert_readable(figure)


def test_names_keep_apart_in_given_axes_too():
    axes = Figure(figsize=(8, 3)).add_axes((0.1, 0.2, 0.5, 0.7))
    curve_axes(axes, panel_of(LINE, {**LINE, "label": "DoRA", "colour": "dora"}))
    FigureCanvasAgg(axes.figure).draw()
    one, two = (super(Annotation, t).get_window_extent() for t in axes.texts)
    assert not one.overlaps(two)


def test_the_picture_is_made_from_what_json_holds():
    content = {"panels": [panel_of(LINE, POINT)], "sentences": [], "seeds": 3}
    stored = curves_figure(json.loads(json.dumps(content)))
    assert curves(stored.axes[0]) == curves(curves_figure(content).axes[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": "alora"}, "unknown colour 'alora': give a method's key"),
        ({"colour": 6}, "unknown colour 6"),
        ({"mean": [1.0]}, "4 x, 1 means and 4 halves"),
        ({"mean": [None] * 4}, "no mean that is known"),
        ({"marks": [3]}, "no known point at the mark x = 3"),
        ({"x": [0, 1, 2, 4]}, "x = 0, which has no place on a logarithmic axis"),
    ],
)
def test_a_line_that_cannot_be_drawn_is_refused_in_words(change, words):
    with pytest.raises(ValueError, match=words):
        figure_of(panel_of({**LINE, **change}))


@pytest.mark.parametrize(
    ("panels", "words"),
    [
        ([], "there is no panel"),
        ([panel_of()], "a panel has no line"),
        ([panel_of(LINE, x_scale="log")], "unknown x_scale 'log': choose one of linear, log2"),
    ],
)
def test_a_panel_that_cannot_be_drawn_is_refused_in_words(panels, words):
    with pytest.raises(ValueError, match=words):
        figure_of(*panels)


def test_numbers_far_from_one_are_written_with_a_power():
    values = [0, 0.05, -2.5, 1e-5, -2.5e-7, 1e6, 3e8]
    assert [short_number(v) for v in values] == [
        *("0", "0.05", "−2.5", "10⁻⁵", "−2.5 · 10⁻⁷", "10⁶", "3 · 10⁸")
    ]
