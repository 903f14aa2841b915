"""The results panel shows what records say, the paper's numbers on request, and what is missing."""

import dataclasses
import io
import time
from statistics import median

import numpy as np
import pytest
from PIL import Image

from allora_lab.experiments.learning_rates import learning_rate_content
from allora_lab.figures import FIGURES
from allora_lab.panels import results
from allora_lab.panels.results import (
    EXPERIMENTS,
    PER_ROW,
    ResultsPanel,
    content_of,
    drawing_of,
    figures_of,
    is_of_paper,
    picture_of,
    sentences_of,
    show,
)
from allora_lab.panels.small_png import small_png

RECORDED = ["learning-rate", "perception"]  # with the paper's numbers, and without


def size_of(png):
    return Image.open(io.BytesIO(png)).size


def pixels_of(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def forget():
    for kept in (content_of, figures_of, picture_of, drawing_of):
        kept.cache_clear()


@pytest.fixture
def nothing_read():
    forget()
    yield
    forget()


@pytest.fixture
def nothing_recorded(tmp_path, monkeypatch, nothing_read):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))


def test_the_panel_has_every_figure_that_is_made_of_a_sweeps_records():
    of_records = {
        name: info for name, info in FIGURES.items() if "_of_records" in info.compute.__qualname__
    }
    assert of_records.keys() == EXPERIMENTS.keys()
    for name, info in of_records.items():
        assert EXPERIMENTS[name].draw is info.draw
        kept = [cell.cell_contents for cell in info.compute.__closure__]
        assert EXPERIMENTS[name].content in kept


@pytest.mark.parametrize("name", RECORDED)
def test_choosing_an_experiment_shows_its_picture_and_each_of_its_sentences(name):
    panel = ResultsPanel()
    panel.controls["experiment"].value = name
    assert panel.picture.value == drawing_of(name)
    assert panel.png() == picture_of(name)
    assert panel.caption.value.count("<li>") == len(content_of(name)["sentences"])
    for said in content_of(name)["sentences"]:
        assert said in panel.caption.value


def test_without_the_paper_its_bars_and_its_sentences_go():
    panel = ResultsPanel()
    panel.controls["experiment"].value = "perception"
    with_paper, caption = panel.png(), panel.caption.value
    assert "The paper: " in caption
    panel.controls["paper"].value = False
    assert size_of(panel.png()) != size_of(with_paper)
    assert "The paper" not in panel.caption.value
    assert panel.caption.value.count("<li>") == caption.count("<li>") - 1
    panel.reset.click()
    assert (panel.png(), panel.caption.value) == (with_paper, caption)


def test_where_the_paper_has_no_numbers_there_is_nothing_to_switch_off():
    panel = ResultsPanel()
    assert not panel.controls["paper"].disabled
    panel.controls["experiment"].value = "learning-rate"
    assert panel.controls["paper"].disabled
    before = panel.png(), panel.caption.value
    drawn = drawing_of.cache_info().misses
    panel.controls["paper"].value = False
    assert (panel.png(), panel.caption.value) == before
    assert drawing_of.cache_info().misses == drawn


@pytest.mark.usefixtures("nothing_read")
def test_sentences_are_text_and_no_markup(monkeypatch):
    real = EXPERIMENTS["perception"]
    changed = dataclasses.replace(
        real, content=lambda: {**real.content(), "sentences": ["a < b & <i>c</i>"]}
    )
    monkeypatch.setitem(EXPERIMENTS, "perception", changed)
    assert "<li>a &lt; b &amp; &lt;i&gt;c&lt;/i&gt;</li>" in ResultsPanel().caption.value


def test_the_papers_panel_stands_beside_our_first(monkeypatch):
    drawn, real = [], EXPERIMENTS["perception"]

    def draw(content):
        drawn.append([panel["title"] for panel in content["panels"]])
        return real.draw(content)

    monkeypatch.setitem(EXPERIMENTS, "perception", dataclasses.replace(real, draw=draw))
    figures_of.__wrapped__("perception")
    ours = [p["title"] for p in content_of("perception")["panels"] if not is_of_paper(p)]
    assert [len(row) for row in drawn] == [PER_ROW, len(ours) - 1]
    assert drawn[0][0] == ours[0]
    assert drawn[0][1].startswith("The paper")
    assert drawn[1] == ours[1:]


def test_a_row_below_another_keeps_its_pixels_and_widens_nothing():
    rows = [{"panels": learning_rate_content()["panels"][i : i + 1]} for i in (0, 2)]
    figures = [EXPERIMENTS["learning-rate"].draw(row) for row in rows]
    apart = [pixels_of(small_png([figure])) for figure in figures]
    together = pixels_of(small_png(figures))
    assert together.shape[:2] == (sum(map(len, apart)), max(row.shape[1] for row in apart))
    lower = together[len(apart[0]) :, : apart[1].shape[1]]
    assert np.abs(lower - apart[1]).max() < 32  # each with a palette of its own


@pytest.mark.usefixtures("nothing_recorded")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_without_records_a_sentence_says_how_to_make_them(name, capsys):
    panel = ResultsPanel()
    panel.controls["experiment"].value = name
    assert panel.png() == b""
    assert panel.picture.layout.display == "none"
    assert "recorded: allora-lab " in panel.caption.value
    show(name)
    said = " ".join(capsys.readouterr().out.split())
    assert said == panel.caption.value


@pytest.mark.usefixtures("nothing_recorded")
def test_the_picture_comes_back_with_the_records(monkeypatch):
    panel = ResultsPanel()
    monkeypatch.delenv("ALLORA_LAB_RESULTS")
    panel.refresh()
    assert size_of(panel.png())[0] > 300
    assert panel.picture.layout.display is None


def test_show_prints_every_sentence_in_lines_that_fit_a_notebook(capsys):
    show("perception")
    printed = capsys.readouterr().out
    flat = " ".join(printed.split())
    assert all(" ".join(said.split()) in flat for said in sentences_of("perception"))
    assert max(map(len, printed.splitlines())) <= results.TEXT_WIDTH


def test_an_unknown_experiment_is_one_sentence_with_those_there_are():
    with pytest.raises(ValueError, match=r"unknown experiment 'perceptio'.*perception"):
        show("perceptio")


def test_a_picture_is_drawn_once_and_then_shown_at_once():
    panel = ResultsPanel()
    for name in (*RECORDED, *RECORDED):
        panel.controls["experiment"].value = name
    took = []
    for name in RECORDED * 5:
        started = time.process_time()
        panel.controls["experiment"].value = name
        took.append(time.process_time() - started)
    assert median(took) < 0.2
