"""Pictures have words, captions are read out, files can be saved, and functions are named."""

import re

import pytest
from matplotlib.figure import Figure

from allora_lab.experiments.hessian import convex_case
from allora_lab.panels.adaptive_rate import AdaptiveRatePanel
from allora_lab.panels.allocation import AllocationPanel
from allora_lab.panels.base import Panel, choice, svg_of
from allora_lab.panels.by_hand import ByHand
from allora_lab.panels.dropout_ols import DropoutOLSPanel
from allora_lab.panels.escape import EscapePanel
from allora_lab.panels.gradient_variance import GradientVariancePanel
from allora_lab.panels.hessian import HessianPanel
from allora_lab.panels.landscape import LandscapePanel
from allora_lab.panels.one_layer import OneLayerPanel
from allora_lab.panels.picture import Caption, Picture, plain, stacked_svgs
from allora_lab.panels.results import ResultsPanel
from allora_lab.panels.ripple import RipplePanel
from allora_lab.panels.tools import how_computed, source_link, tools
from allora_lab.panels.verdicts import VerdictsPanel

PANELS = {
    "dropout": DropoutOLSPanel,
    "hessian": HessianPanel,
    "landscape": LandscapePanel,
    "ripple": RipplePanel,
    "variance": lambda: GradientVariancePanel().panel,
    "one-layer": OneLayerPanel,
    "adaptive-rate": AdaptiveRatePanel,
    "escape": lambda: EscapePanel().panel,
    "results": ResultsPanel,
    "allocation": lambda: AllocationPanel().panel,
}
# These change how a thing is drawn, not what is measured: the caption need not speak of them.
ONLY_THE_VIEW = {("landscape", "azimuth"), ("landscape", "elevation"), ("escape", "axis")}


def sent(widget):
    """Return what the page gets for the widget's value."""
    return widget.get_state("value")["value"]


def test_the_page_gets_an_img_with_the_words_escaped():
    picture = Picture()
    assert sent(picture) == ""
    picture.show(b"<svg/>", 'a < b & "c"')
    assert 'alt="a &lt; b &amp; &quot;c&quot;"' in sent(picture)
    assert "data:image/svg+xml;base64,PHN2Zy8+" in sent(picture)
    picture.show(b"\x89PNG", "", "png")
    assert "data:image/png;base64," in sent(picture)


def test_words_alone_are_sent_too(monkeypatch):
    picture, told = Picture(), []
    picture.show(b"<svg/>", "one")
    monkeypatch.setattr(picture, "send_state", told.append)
    picture.show(b"<svg/>", "one")
    assert told == []
    picture.show(b"<svg/>", "two")
    assert told == ["value"]


def test_a_caption_is_a_live_region_in_the_page_and_plain_in_python():
    caption = Caption()
    caption.value = "<b>x</b>"
    assert caption.value == "<b>x</b>"
    assert sent(caption) == '<div role="status" aria-live="polite"><b>x</b></div>'


def test_plain_words_have_no_marks():
    assert plain("a <b>bold</b> &lt; word<br>\n next") == "a bold < word next"
    assert plain("<p><b>ALLoRA</b>, <i>SGD</i>.</p><p>Then</p>") == "ALLoRA, SGD. Then"


def test_stacked_pictures_stand_below_each_other():
    figures = [svg_of(Figure(figsize=size)) for size in ((4, 3), (6, 1))]
    whole = stacked_svgs(figures).decode()
    assert 'width="432pt" height="288pt"' in whole[:120]
    assert re.findall(r'<svg y="([\d.]+)pt"', whole) == ["0", "216"]


@pytest.mark.parametrize("name", PANELS)
def test_every_panel_says_what_it_shows_and_puts_its_controls_back(name):
    panel = PANELS[name]()
    before = panel.values(), panel.picture.value, panel.picture.words, panel.caption.value
    assert panel.picture.words.startswith(plain(panel.caption.value))
    for label, control in panel.controls.items():
        words, captions = set(), set()
        for end in (0, -1):
            values = [value for _, value in getattr(control, "_options_full", ())] or [False, True]
            control.value = values[end]
            words.add(panel.picture.words)
            captions.add(panel.caption.value)
            is_of_list = hasattr(control, "index")
            at = control._options_labels[end] if is_of_list else control.value
            said = f"{control.description} {at}"
            assert said in panel.picture.words
        assert len(words) == 2
        assert len(captions) == 2 or (name, label) in ONLY_THE_VIEW, label
        panel.reset.click()
        after = panel.values(), panel.picture.value, panel.picture.words, panel.caption.value
        assert after == before, label


def test_reset_draws_once():
    drawn = []

    def draw(**values):
        drawn.append(values)
        return Figure(), "x"

    panel = Panel({name: choice(name, (1, 2), 1) for name in "ab"}, draw)
    for control in panel.controls.values():
        control.value = 2
    drawn.clear()
    panel.reset.click()
    assert drawn == [{"a": 1, "b": 1}]


def test_reset_puts_back_the_claims_and_the_numbers_given_by_hand():
    verdicts, by_hand = VerdictsPanel(), ByHand(4, {"query": 1.0, "key": 0.5})
    table = verdicts.table.value
    verdicts.controls["verdict"].value = "open"
    verdicts.controls["section"].value = verdicts.controls["section"].options["all"]
    assert verdicts.table.value != table
    verdicts.reset.click()
    assert verdicts.table.value == table
    by_hand.inputs["query"].value = 3
    by_hand.check.click()
    by_hand.reset.click()
    assert [box.value for box in by_hand.inputs.values()] == [0, 0]
    assert by_hand.verdict.value == ""


def test_tools_save_under_the_panels_name_and_show_the_docstring():
    panel = HessianPanel()
    assert 'download="hessian.svg"' in panel.tools.value
    assert 'download="hessian.png"' in panel.tools.value
    assert "allora_lab.experiments.hessian.convex_case" in panel.tools.value
    assert convex_case.__doc__.splitlines()[0][:30] in panel.tools.value
    assert "download" not in tools("").value
    assert how_computed(()) == ""


def test_a_source_is_linked_only_from_where_the_link_leads_somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "href" not in source_link(convex_case)
    from allora_lab.experiments import hessian

    package = tmp_path / "allora_lab"
    package.symlink_to(hessian.__file__.rpartition("/experiments")[0])
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert 'href="../allora_lab/experiments/hessian.py"' in source_link(convex_case)
