"""One JupyterLab and one browser for all notebooks; a table of what was done, at the end."""

import os
import shutil
import statistics
from pathlib import Path

import pytest

from .lab_server import REPOSITORY, running_lab

SLOW = 200  # milliseconds from a key to the picture, from which on the table marks a panel
ROWS = []


def pytest_addoption(parser):
    group = parser.getgroup("browser tests")
    group.addoption("--screenshots", type=Path, help="where pictures of the panels go")
    group.addoption("--theme", default="light", choices=("light", "dark"), help="JupyterLab's")


@pytest.fixture(scope="session")
def screenshots(pytestconfig):
    named = pytestconfig.getoption("screenshots") or os.environ.get("ALLORA_LAB_SCREENSHOTS")
    folder = Path(named or REPOSITORY / "out" / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def chromium():
    names = ("chromium", "google-chrome", "chromium-browser")
    found = next(filter(None, map(shutil.which, names)), None)
    if not found:
        pytest.fail("no chromium on this machine: `apt-get install chromium` brings it", False)
    return found


@pytest.fixture(scope="session")
def lab(tmp_path_factory, pytestconfig):
    with running_lab(tmp_path_factory.mktemp("lab"), pytestconfig.getoption("theme")) as server:
        yield server


@pytest.fixture(scope="session")
def page(chromium):
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        pytest.fail("Playwright is missing: `pip install -e '.[browser]'` brings it", False)
    with sync_playwright() as playwright:
        # a browser that is run by root, as in a container, has no sandbox
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1500, "height": 1300})
        context.set_default_timeout(30_000)
        yield context.new_page()
        browser.close()


def pytest_terminal_summary(terminalreporter):
    if not ROWS:
        return
    write = terminalreporter.write_line
    terminalreporter.section("panels in the browser")
    write(f"{'notebook':10}{'panel':24}{'actions':>8}{'median':>9}{'worst':>8}  ms, key to picture")
    for notebook, panel in ROWS:
        times = panel.milliseconds
        row = f"{notebook:10}{panel.twin.name:24}{panel.actions:8}"
        if times:
            median = statistics.median(times)
            row += f"{median:9.0f}{max(times):8.0f}{'  slow' if median > SLOW else ''}"
        write(row)
