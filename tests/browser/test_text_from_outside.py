"""Markup in text that the lab did not write is shown as text and runs nothing, in Chromium."""

import sys

import nbformat
import pytest

from .lab_server import REPOSITORY
from .live import wait_until

MARKUP = "<img src=x onerror=alert(1)>"
CELLS = (
    """
import json, os, tempfile
from allora_lab.experiments.demo import FOLDER
from allora_lab.experiments.records import record_path
from allora_lab.panels.by_hand import ByHand
from allora_lab.panels.escape import EscapePanel
from allora_lab.panels.number import NumberQuestion
from allora_lab.panels.question import Question
X = "<img src=x onerror=alert(1)>"
""",
    "Question(X, {X: X, 'b': X}, right=X)",
    "NumberQuestion(X, 1.0, right=X, mistakes={2.0: X}, unit=X)",
    "ByHand(2, {X: 1.0}, lost=(X + '2',))",
    """
config = EscapePanel()._config_now()
record = json.loads(record_path(FOLDER, config).read_text())
os.environ["ALLORA_LAB_RESULTS"] = tempfile.mkdtemp()
path = record_path(FOLDER, config)
path.parent.mkdir(parents=True)
path.write_text(json.dumps({**record, "device": X}));
""",
    "EscapePanel()",
    "EscapePanel(steps=2, model=X)",
)
IMAGES = "() => document.querySelectorAll('img[src=x], img[onerror]').length"

pytestmark = pytest.mark.browser


@pytest.fixture
def dialogs(page):
    """Collect what `alert` says; each dialog is closed."""
    found = []

    def note(dialog):
        if dialog.type == "beforeunload":  # the notebook opened before this one is not saved
            dialog.accept()
            return
        found.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", note)
    yield found
    page.remove_listener("dialog", note)


@pytest.fixture
def opened(page, lab, dialogs):
    from .notebook_page import run_all

    path = lab.root / "notebooks" / "outside.ipynb"
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in CELLS]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    run_all(page, lab, path)
    yield page
    lab.end_kernels()
    path.unlink()


def times_shown(page):
    """Return how often each panel of the page shows the markup as text."""
    return page.locator(".jp-OutputArea-output").evaluate_all(
        "(areas, text) => areas.map(a => a.textContent.split(text).length - 1)", MARKUP
    )


def test_markup_in_a_panel_is_text(opened, dialogs):
    opened.locator(".widget-radio-box input").first.check()
    for button in opened.get_by_role("button", name="Check").all():
        button.click()
    opened.locator(".widget-text input[type=text]").fill("1")
    opened.get_by_role("button", name="Check").nth(1).click()
    opened.get_by_role("button", name="Run it live").last.click()
    status = opened.locator(".allora-caption").last
    wait_until("an error sentence", lambda: MARKUP in status.inner_text(), 60.0)
    wait_until("every text", lambda: times_shown(opened) == [3, 3, 2, 1, 1])
    assert opened.evaluate(IMAGES) == 0
    assert dialogs == []


def test_markup_on_the_site_is_text(page, dialogs, monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "docs" / "site")
    import without_a_kernel as site

    question = site.question_in(CELLS[1].replace("X", repr(MARKUP)))
    page.set_content(site.as_text(question) + site.picture("AA==", f'"{MARKUP}'))
    page.wait_for_timeout(200)
    assert page.evaluate(IMAGES) == 0
    assert dialogs == []
    assert MARKUP in page.inner_text("body")
    del sys.modules["without_a_kernel"]
