"""A notebook in JupyterLab, opened and run as a reader does it."""

import time
from pathlib import Path

from playwright.sync_api import Page

from .lab_server import LabServer
from .notebook_code import twins_of
from .panel_in_page import ROOTS, PanelInPage

KERNEL_IS_READY = (
    "() => /Python 3.*Idle/.test(document.querySelector('#jp-main-statusbar').innerText)"
)
IS_RUNNING = (
    "() => [...document.querySelectorAll('.jp-InputPrompt')].some(e => e.innerText.includes('*'))"
)
IS_DONE = """() => document.querySelector('.jp-Notebook-ExecutionIndicator').dataset.status == 'idle'
    && ![...document.querySelectorAll('.jp-InputPrompt')].some(e => e.textContent.includes('*'))"""
ERRORS = '[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]'
NOT_SHOWN = ".jupyter-widgets-error-widget, .jp-RenderedText:text('model not found')"


def open_and_run(page: Page, server: LabServer, path: Path) -> list[PanelInPage]:
    """Open a notebook, run all its cells, and return its panels; an error output is a failure."""
    run_all(page, server, path)
    return panels_in(page, path)


def run_all(page: Page, server: LabServer, path: Path) -> None:
    """Open a notebook and run all its cells; an error output is a failure."""
    page.goto(f"{server.page_of(f'notebooks/{path.name}')}&reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
    page.wait_for_function(KERNEL_IS_READY, timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(IS_RUNNING, timeout=10_000)
    page.wait_for_function(IS_DONE, timeout=400_000)
    errors = page.locator(ERRORS).all_inner_texts()
    assert not errors, f"{path.name}: {errors}"
    assert not page.locator(NOT_SHOWN).count(), f"{path.name}: a widget is not shown"


def panels_in(page: Page, path: Path) -> list[PanelInPage]:
    """Return the page's panels beside their twins; refuse a page with more, or with fewer."""
    twins, roots = twins_of(path), page.locator(ROOTS)
    deadline = time.monotonic() + 10
    while roots.count() != len(twins):
        assert time.monotonic() < deadline, (
            f"{roots.count()} panels in {path.name}, not {len(twins)}"
        )
        time.sleep(0.1)
    return [PanelInPage(page, roots.nth(number), twin) for number, twin in enumerate(twins)]
