"""Text that the lab did not write is shown as text, in panels, on the site and in tables."""

import json
import sys
from pathlib import Path

import pytest

from allora_lab.experiments.demo import FOLDER
from allora_lab.experiments.records import record_path
from allora_lab.experiments.sweep_tables import to_markdown
from allora_lab.panels.by_hand import ByHand
from allora_lab.panels.escape import EscapePanel
from allora_lab.panels.number import NumberQuestion
from allora_lab.panels.picture import Caption, safe
from allora_lab.panels.question import Question

SITE = Path(__file__).parents[2] / "docs" / "site"
MARKUP = "<img src=x onerror=alert(1)>"
TEXT = "&lt;img src=x onerror=alert(1)&gt;"


@pytest.fixture
def site(monkeypatch):
    monkeypatch.syspath_prepend(SITE)
    import without_a_kernel

    yield without_a_kernel
    del sys.modules["without_a_kernel"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("<b>LoRA</b>, 3 < 4 & 5<br>", "<b>LoRA</b>, 3 &lt; 4 &amp; 5<br>"),
        ("a &lt; b &amp; c", "a &lt; b &amp; c"),
        (MARKUP, TEXT),
        ("<b onclick=alert(1)>x</b>", "&lt;b onclick=alert(1)&gt;x</b>"),
        ("<scr<b>ipt>alert(1)</scr</b>ipt>", "&lt;scr<b>ipt&gt;alert(1)&lt;/scr</b>ipt&gt;"),
        ("&lt;b&gt; stays text", "&lt;b&gt; stays text"),
    ],
)
def test_only_marks_that_can_do_nothing_stay_marks(words, shown):
    assert safe(words) == shown
    assert safe(shown) == shown
    caption = Caption(value=words)
    assert caption.get_state("value")["value"].count(shown) == 1


def test_a_records_device_is_text_in_the_caption(tmp_path, monkeypatch):
    config = EscapePanel()._config_now()
    record = json.loads(record_path(FOLDER, config).read_text())
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    path = record_path(FOLDER, config)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**record, "device": MARKUP}))
    panel = EscapePanel().panel
    assert f"Recorded on {TEXT}" in panel.caption.value
    assert MARKUP in panel.picture.words  # plain text there, which the page gets escaped
    assert MARKUP not in panel.picture.get_state("value")["value"]


def test_an_error_sentence_is_text_in_the_live_status():
    panel = EscapePanel(steps=2, model=MARKUP)
    panel.live.button.click()
    panel.live.wait(60)
    assert MARKUP in panel.live.problem
    assert TEXT in panel.live.status.value


QUESTIONS = {
    "choices": lambda: Question(MARKUP, {MARKUP: MARKUP, "b": ""}, right=MARKUP),
    "number": lambda: NumberQuestion(MARKUP, 1.0, right=MARKUP, mistakes={2.0: MARKUP}),
    "by hand": lambda: ByHand(2, {MARKUP: 1.0}, lost=(MARKUP + "2",)),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_questions_words_are_text_in_the_panel_and_on_the_site(name, site):
    question = QUESTIONS[name]()
    assert MARKUP not in question.children[0].value
    assert MARKUP not in site.as_text(question)
    assert TEXT in site.as_text(question)
    if name == "choices":
        question.choices.value = MARKUP
        question.check.click()
        assert question.verdict.value == f"<b>Right.</b> {TEXT}"


def test_alternative_text_and_data_stay_inside_their_quotes(site):
    made = site.picture('AA"onerror="alert(1)', f'"{MARKUP}')
    assert made.count('"') == 4
    assert MARKUP not in made


def test_markup_in_a_table_is_one_cell_of_text():
    made = to_markdown([{"device": f"{MARKUP}\n| a", "loss": 1.0}]).splitlines()
    assert made[2] == f"| {TEXT} \\| a | 1.0 |"


def test_the_site_reads_a_questions_arguments_without_running_them(site, tmp_path):
    mark = tmp_path / "ran"
    for words in (f"open({str(mark)!r}, 'w').name", "f'{1}'", "[n for n in 'ab'][0]", "8 / 0"):
        with pytest.raises(ValueError, match="literals only"):
            site.question_in(f"Question({words}, {{'a': 'b'}}, right='a')")
    assert not mark.exists()
    question = site.question_in(
        "NumberQuestion('?', 0.5, right='r', mistakes={8 / 24: 'h', -1: 'i'})"
    )
    assert list(question._mistakes) == [8 / 24, -1]
