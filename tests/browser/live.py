"""The parts of panels that run in the background: Run, a bar, a status, Stop."""

import time
from collections.abc import Callable

from playwright.sync_api import Locator

from .actions import reset
from .panel_in_page import PanelInPage

LIVE = ".widget-hbox:has(> .widget-hprogress)"
SLOWEST = 120.0  # seconds for a model to load and to be measured twice


def wait_until(what: str, happens: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something to happen; say what did not."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"after {seconds:g} s: not {what}"
        time.sleep(0.05)


def share_done(live: Locator) -> float:
    """Return how far the bar is, in percent."""
    return float(live.locator(".progress-bar").evaluate("bar => parseFloat(bar.style.width)"))


def run_and_stop(panel: PanelInPage, live: Locator) -> None:
    """Run: progress, and the picture moves; Stop: a message, and all stands still; Reset."""
    run, stop = live.locator(".widget-button").all()
    status = live.locator(".allora-caption")
    reset(panel)
    before = panel.shown()
    run.click()
    wait_until("a Stop to press", lambda: stop.is_enabled() and run.is_disabled())
    wait_until("progress", lambda: share_done(live) > 0, SLOWEST)
    wait_until("the time left", lambda: "left" in status.inner_text(), SLOWEST)
    wait_until("a picture of the run", lambda: panel.picture() != picture_in(before), SLOWEST)
    stop.click()
    wait_until("stopped", lambda: status.inner_text() == "stopped" and run.is_enabled(), 60.0)
    assert stop.is_disabled()
    assert share_done(live) < 100
    at_rest = panel.shown()
    time.sleep(0.5)
    assert panel.shown() == at_rest, "the run went on after Stop"
    reset(panel)
    assert panel.shown() == before
    assert share_done(live) == 0


def picture_in(shown: dict) -> tuple[str, ...]:
    """Return what is drawn, of what is shown."""
    return (*shown["pictures"], shown["table"])
