"""Differences around zero: dots and bars at their numbers, every row's words whole and apart."""

import itertools
import json

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from allora_lab.plots.forest import forest_axes, forest_figure, number_format, row_numbers


def row(label, mean, low=None, high=None, group=None, emphasis=False):
    words = {"label": label, "group": group, "emphasis": emphasis}
    return {**words, "mean": mean, "low": low, "high": high}


ROWS = [
    row("AdamW, η² = 4", 0.3, -1.0, 1.6, "Rotten Tomatoes"),
    row("SGD, η² = 4", 2.3, 1.1, 3.5, "Rotten Tomatoes"),
    row("AdamW, η² = 2", -1.4, -2.2, -0.6, "Emotion"),
    row("the paper's", 0.48, group="Emotion"),
    row("pooled", 0.4, -0.1, 0.9, emphasis=True),
]


def panel_of(rows, title="Here: MiniLM"):
    return {"title": title, "x_label": "ALLoRA - LoRA, points", "rows": rows}


def figure_of(*panels, **more):
    return forest_figure({"panels": panels, "sentences": [], **more})


def parts(axes):
    """Return the zero line, the bars and the dots, in the order of the rows."""
    zero, *others = axes.get_lines()
    bars = [a for a in others if len(a.get_xdata()) == 2]
    return zero, bars, [a for a in others if len(a.get_xdata()) == 1]


def own_box(text):
    """Return a text's box after drawing, without an annotation's leader."""
    if isinstance(text, Annotation):
        return super(Annotation, text).get_window_extent()
    return text.get_window_extent()


def assert_readable(figure):
    """Every text is inside the canvas and overlaps no other."""
    FigureCanvasAgg(figure).draw()
    texts = list(figure.texts)
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = [t.label1 for t in axes.xaxis.get_major_ticks() if low <= t.get_loc() <= high]
        texts += [*axes.texts, axes.xaxis.label, axes._left_title, *ticks]
    boxes = [(t.get_text(), own_box(t)) for t in texts if t.get_text()]
    assert len(boxes) > 3
    for text, box in boxes:
        assert min(box.x0, box.y0) >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text
    for (text, box), (other, its) in itertools.combinations(boxes, 2):
        assert not box.overlaps(its), (text, other)


def test_dots_stand_at_the_means_and_bars_reach_low_and_high():
    (axes,) = figure_of(panel_of(ROWS)).axes
    _, bars, dots = parts(axes)
    assert [dot.get_xdata()[0] for dot in dots] == [r["mean"] for r in ROWS]
    known = [r for r in ROWS if r["low"] is not None]
    assert [list(bar.get_xdata()) for bar in bars] == [[r["low"], r["high"]] for r in known]
    heights = [dot.get_ydata()[0] for dot in dots if dot.get_xdata()[0] != 0.48]
    assert [list(bar.get_ydata()) for bar in bars] == [[y, y] for y in heights]
    low, high = axes.get_xlim()
    assert low < -2.2
    assert high > 3.5


def test_rows_go_down_in_their_order_with_a_gap_where_the_group_changes():
    (axes,) = figure_of(panel_of(ROWS)).axes
    heights = [dot.get_ydata()[0] for dot in parts(axes)[2]]
    steps = [b - a for a, b in itertools.pairwise(heights)]
    assert steps == [1, 2.5, 1, 1.5]  # a heading takes a row, a gap half of one
    bottom, top = axes.get_ylim()
    assert bottom > top


def test_headings_stand_where_the_group_changes_and_only_there():
    (axes,) = figure_of(panel_of(ROWS)).axes
    first, _, third, *_ = (dot.get_ydata()[0] for dot in parts(axes)[2])
    places = {t.get_text(): t.xy[1] for t in axes.texts}
    assert places["Rotten Tomatoes"] == first - 1
    assert places["Emotion"] == third - 1
    assert len(axes.texts) == 2 * len(ROWS) + 2


def test_the_zero_line_is_there_even_where_all_is_above():
    (axes,) = figure_of(panel_of([row("far", 50.0, 49.0, 51.0)])).axes
    zero = parts(axes)[0]
    assert list(zero.get_xdata()) == [0, 0]
    assert list(zero.get_ydata()) == [0, 1]  # of the axes' height
    assert axes.get_xlim()[0] < 0


def test_an_unknown_interval_has_a_dot_and_no_bar():
    (axes,) = figure_of(panel_of([row("paper", 0.48)])).axes
    _, bars, dots = parts(axes)
    assert not bars
    assert [dot.get_xdata()[0] for dot in dots] == [0.48]
    assert [t.get_text() for t in axes.texts] == ["paper", "+0.48"]


@pytest.mark.parametrize(
    ("low", "high", "is_filled"),
    [(0.1, 0.5, True), (-0.5, 0.5, False), (0.0, 0.6, False), (None, None, False)],
)
def test_a_dot_is_filled_where_its_interval_leaves_out_zero(low, high, is_filled):
    mirrored = (None, None) if low is None else (-high, -low)
    rows = [row("one", 0.3, low, high), row("other", -0.3, *mirrored)]
    (axes,) = figure_of(panel_of(rows)).axes
    one, other = parts(axes)[2]
    for dot in (one, other):
        assert (dot.get_markerfacecolor() == dot.get_markeredgecolor()) is is_filled
        assert is_filled or dot.get_markerfacecolor() == "white"
    assert (one.get_markeredgecolor() != other.get_markeredgecolor()) is is_filled


def test_the_pooled_row_is_a_diamond_with_a_bold_label_and_no_other_is():
    (axes,) = figure_of(panel_of(ROWS)).axes
    assert [dot.get_marker() for dot in parts(axes)[2]] == ["o", "o", "o", "o", "D"]
    bold = {t.get_text() for t in axes.texts if t.get_fontweight() == "bold"}
    assert bold == {"Rotten Tomatoes", "Emotion", "pooled", "+0.40 [-0.10, 0.90]"}


def test_labels_and_numbers_stand_at_the_height_of_their_row():
    (axes,) = figure_of(panel_of(ROWS)).axes
    heights = [dot.get_ydata()[0] for dot in parts(axes)[2]]
    at = {t.get_text(): (t.xy[1], t.get_position()[0]) for t in axes.texts}
    assert [at[r["label"]][0] for r in ROWS] == heights
    assert at["+0.30 [-1.00, 1.60]"][0] == heights[0]
    assert len({at[r["label"]][1] for r in ROWS}) == 1  # one column


def test_labels_end_left_of_the_axes_and_numbers_begin_right_of_them():
    (axes,) = figure_of(panel_of(ROWS)).axes
    FigureCanvasAgg(axes.figure).draw()
    boxes = {t.get_text(): own_box(t) for t in axes.texts}
    numbers = [text for text in boxes if text[0] in "+-"]
    assert len(numbers) == len(ROWS)
    assert all(boxes[text].x0 > axes.bbox.x1 for text in numbers)
    assert all(box.x1 < axes.bbox.x0 for text, box in boxes.items() if text not in numbers)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0.3, -1.0, 1.6), "+0.3 [-1.0, 1.6]"),
        ((-0.012, -0.03, 0.006), "-0.012 [-0.030, 0.006]"),
        ((-0.01, -1.01, 0.99), "+0.0 [-1.0, 1.0]"),
        ((30.0, 10.0, 50.0), "+30 [10, 50]"),
        ((3e-8, 1e-8, 5e-8), "+3.0e-08 [1.0e-08, 5.0e-08]"),
        ((3e7, -1e7, 7e7), "+3.0e+07 [-1.0e+07, 7.0e+07]"),
        ((0.48, None, None), "+0.48"),
        ((0.0031, None, None), "+0.0031"),
        ((0.0, 0.0, 0.0), "+0.00 [0.00, 0.00]"),
    ],
)
def test_numbers_show_two_digits_of_the_half_interval(numbers, words):
    only = row("x", *numbers)
    assert row_numbers(only, number_format([only])) == words


def test_the_key_says_what_occurs():
    def said(rows):
        return figure_of(panel_of(rows)).texts[0].get_text()

    assert said(ROWS[:1]) == "filled: the interval leaves out 0; hollow: it does not"
    assert said(ROWS[3:4]) == "no bar: none printed, or all seeds agree"


LONG = "a panel whose title is so long that it has to be written in more than a single line " * 2
MANY = [
    row(f"setting {i} of a sweep with a long name", i / 10 - 1.5, i / 10 - 2, i / 10, f"{i // 4}")
    for i in range(30)
]


@pytest.mark.parametrize(
    "panels",
    [
        [panel_of(ROWS)],
        [panel_of([row("x", 0.3, 0.1, 0.5)], LONG)],
        [panel_of(MANY), panel_of(ROWS[3:4], "Paper")],
        [
            panel_of([row("tiny", 3e-8, -4e-7, 5e-7)]),
            panel_of([row("large", 3e7, -6e7, 7e7)]),
            panel_of([row("nothing", 0.0, 0.0, 0.0)]),
        ],
    ],
    ids=["five rows", "one row", "thirty beside one", "tiny, large, zero"],
)
def test_no_text_is_cut_off_or_covered(panels):
    assert_readable(figure_of(*panels, note="a note."))


def test_the_figure_is_as_tall_as_its_longest_panel_needs_and_rows_keep_their_distance():
    small, both = figure_of(panel_of(ROWS)), figure_of(panel_of(ROWS), panel_of(MANY))
    assert small.get_figheight() < 4
    assert both.get_figheight() > 8
    first, second = both.axes
    for axes in (first, second, *small.axes):
        (_, one), (_, two) = axes.transData.transform([(0, 0), (0, 1)])
        assert (one - two) / axes.figure.dpi == pytest.approx(0.27)
    assert first.bbox.y1 == pytest.approx(second.bbox.y1)
    assert first.get_xlim() != second.get_xlim()


def test_a_long_title_takes_more_lines_and_hardly_more_width():
    short, long = figure_of(panel_of(ROWS)), figure_of(panel_of(ROWS, LONG))
    assert long.get_figheight() > short.get_figheight()
    assert long.get_figwidth() < 1.05 * short.get_figwidth()


def test_the_picture_is_made_from_what_json_holds():
    content = {"panels": [panel_of(ROWS)], "sentences": []}
    (axes,) = forest_figure(json.loads(json.dumps(content))).axes
    given = Figure(figsize=(9, 3)).add_axes((0.3, 0.3, 0.4, 0.5))
    forest_axes(given, content["panels"][0])  # as a panel draws it
    for drawn in (axes, given):
        assert [dot.get_xdata()[0] for dot in parts(drawn)[2]] == [r["mean"] for r in ROWS]


@pytest.mark.parametrize(
    ("only", "words"),
    [
        (row("x", 0.3, 0.1, None), "row 'x' has one end of its interval"),
        (row("x", 0.3, 0.5, 0.7), "has its mean 0.3 outside its interval 0.5 to 0.7"),
        (row("x", float("nan")), "has a number that is not finite"),
    ],
)
def test_a_row_that_cannot_be_drawn_is_refused_in_words(only, words):
    with pytest.raises(ValueError, match=words):
        figure_of(panel_of([only]))


def test_a_figure_without_panels_or_rows_is_refused_in_words():
    with pytest.raises(ValueError, match="there is no panel"):
        figure_of()
    with pytest.raises(ValueError, match="'Here: MiniLM' has no row"):
        figure_of(panel_of([]))
