"""Every notebook is run in JupyterLab, and everything that can be moved in it is moved.

Each panel has a twin, built from the notebook's code in this process.  What is done in the page is
done to the twin; the page must then show the twin's words and, byte for byte, its pictures.
"""

import pytest

from tests.browser.actions import move_every_control, to_the_ends
from tests.browser.conftest import ROWS
from tests.browser.lab_server import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def panels(request, page, lab, screenshots):
    from tests.browser.notebook_page import open_and_run

    name = request.param.stem
    try:
        found = open_and_run(page, lab, request.param)
    except Exception:
        page.screenshot(path=screenshots / f"{name}-failed.png")
        raise
    ROWS.extend((name[:2], panel) for panel in found)
    yield found
    lab.end_kernels()


def test_every_control_changes_what_is_shown_and_reset_puts_it_back(panels):
    for panel in panels:
        move_every_control(panel)


def test_every_panel_is_photographed_at_both_ends(panels, screenshots, request):
    for number, panel in enumerate(panels):
        for end, name in enumerate(("low", "high")):
            to_the_ends(panel, end)
            stem = request.node.callspec.id.split("_")[0]
            panel.root.screenshot(
                path=screenshots / f"{stem}-{number}-{panel.twin.name}-{name}.png"
            )
