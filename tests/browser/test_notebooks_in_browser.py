"""Every notebook is run in JupyterLab, and everything that can be moved in it is moved.

Each panel has a twin, built from the notebook's code in this process.  What is done in the page is
done to the twin; the page must then show the twin's words and, byte for byte, its pictures.
"""

import re

import pytest
from playwright.sync_api import Error

from .actions import move_every_control, reset, to_the_ends
from .conftest import ROWS
from .lab_server import REPOSITORY
from .live import LIVE, run_and_stop
from .tools_in_page import read_to_the_blind, save_both, tab_through

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def panels(request, page, lab, screenshots):
    from .notebook_page import open_and_run

    name = request.param.stem
    try:
        found = open_and_run(page, lab, request.param)
    except (AssertionError, Error):
        page.screenshot(path=screenshots / f"{name}-failed.png")
        raise
    ROWS.extend((name[:2], panel) for panel in found)
    yield found
    lab.end_kernels()


def test_every_control_changes_what_is_shown_and_reset_puts_it_back(panels):
    for panel in panels:
        move_every_control(panel)


def test_every_panel_is_photographed_at_both_ends(panels, page, screenshots, request):
    page.set_viewport_size({"width": 1500, "height": 2600})  # the tallest panel fits
    for number, panel in enumerate(panels):
        reset(panel)  # later cells have moved some
        for end, name in enumerate(("low", "high")):
            to_the_ends(panel, end)
            stem = request.node.callspec.id.split("_")[0]
            panel.root.screenshot(
                path=screenshots / f"{stem}-{number}-{panel.twin.name}-{name}.png"
            )


def test_every_live_run_shows_progress_and_stops(panels):
    for panel in panels:
        parts = panel.root.locator(LIVE).all()
        in_code = [w for w in panel.twin.every() if type(w).__name__.endswith("Progress")]
        assert len(parts) == len(in_code)
        for live in parts:
            run_and_stop(panel, live)


def test_every_picture_is_saved_as_svg_and_png(panels):
    for panel in panels:
        assert panel.root.locator("a[download]").count() == 2 * len(panel.twin.pictures())
        reset(panel)
        if panel.twin.pictures():
            save_both(panel)


def test_every_picture_has_its_words_in_the_accessibility_tree(panels):
    for panel in panels:
        reset(panel)
        read_to_the_blind(panel)


def test_every_part_is_reached_by_tab_and_shows_it(panels):
    for panel in {panel.twin.name: panel for panel in panels}.values():
        tab_through(panel)


def test_how_it_is_computed_leads_to_the_function(panels, page):
    for panel in panels:
        for link in panel.root.locator(".allora-tools details a").all():
            path = link.evaluate("a => new URL(a.href).pathname").removeprefix("/lab/tree/")
            *module, function = link.text_content().split(".")
            assert path == f"{'/'.join(module)}.py"
            assert re.search(rf"^def {function}\b", (REPOSITORY / path).read_text(), re.MULTILINE)
            assert link.locator("+ pre").text_content()


def test_a_link_opens_the_file_in_jupyterlab(panels, page):
    with_link = [p for p in panels if p.twin.name == "HessianPanel"]  # one Lab more is enough
    for panel in with_link:
        panel.root.locator("summary").click()
        with page.expect_popup() as opened:
            panel.root.locator("details a").first.click()
        editor = opened.value.locator(".jp-FileEditor .cm-content")
        editor.wait_for(timeout=60_000)
        assert "def convex_case" in editor.inner_text()
        opened.value.close()
