"""A panel as it stands in the page: its parts, found by what they are, and what they show."""

import base64
import time
from collections import Counter
from typing import Any

from playwright.sync_api import Locator, Page

from .notebook_code import Twin, squeezed

ROOTS = ".jp-OutputArea-output:has(> .jupyter-widgets), .jp-OutputArea-output:has(> .lm-Widget)"
SELECTORS = {
    "slider": ".widget-slider",
    "menu": ".widget-dropdown",
    "radio": ".widget-radio",
    "checkbox": ".widget-checkbox",
    "number": ".widget-text:has(input[type=number])",
    "text": ".widget-text:has(input[type=text]), .widget-textarea",
    "button": ".widget-button",
}
INTERACTIVE = "[role=slider], select, .widget-radio-box, input:not([type=radio]), textarea, button"
PATIENCE = 20.0  # seconds until a change must have reached the page
CLOCK = """root => {
    const clock = window.alloraClock = {pressed: 0, shown: 0};
    const start = () => { clock.pressed = performance.now(); clock.shown = 0; };
    root.addEventListener('keydown', start, true);
    new MutationObserver(changes => {
        const isPicture = c => c.target.closest?.('.allora-picture') || c.target.querySelector?.('table');
        if (changes.some(isPicture) && clock.pressed && !clock.shown) {
            clock.shown = performance.now();
        }
    }).observe(root, {subtree: true, childList: true});
}"""
SHOWN = """root => ({
    words: [...root.querySelectorAll('.widget-html')]
        .filter(e => !e.matches('.allora-picture, .allora-tools'))
        .map(e => e.querySelector('.widget-html-content').textContent),
    pictures: [...root.querySelectorAll('.allora-picture')].map(e => e.querySelector('img')?.src ?? ''),
    table: [...root.querySelectorAll('.widget-htmlmath table')].map(e => e.textContent).join(''),
    sliders: [...root.querySelectorAll('[role=slider]')]
        .map(e => [e.getAttribute('aria-label'), e.getAttribute('aria-valuetext')]),
})"""


class PanelInPage:
    """One output of widgets in the page, beside its twin in this process."""

    def __init__(self, page: Page, root: Locator, twin: Twin) -> None:
        self.page, self.root, self.twin = page, root, twin
        self.milliseconds: list[float] = []
        self.actions = 0
        self._controls: list[tuple[str, Locator, Any]] | None = None

    def controls(self) -> list[tuple[str, Locator, Any]]:
        """Return kind, element and twin of each control; refuse a page with more, or with fewer."""
        if self._controls is None:
            self._controls = self._found()
        return self._controls

    def _found(self) -> list[tuple[str, Locator, Any]]:
        elements = {kind: self.root.locator(css).all() for kind, css in SELECTORS.items()}
        in_code = Counter(kind for kind, _ in self.twin.controls())
        in_page = Counter({kind: len(those) for kind, those in elements.items()})
        assert in_page == in_code, f"{self.twin.name}: the page has other controls than the code"
        every = self.root.locator(INTERACTIVE).count()
        assert every == in_code.total(), f"{self.twin.name}: {every} parts, {in_code.total()} known"
        rest = {kind: iter(those) for kind, those in elements.items()}
        return [(kind, next(rest[kind]), widget) for kind, widget in self.twin.controls()]

    def shown(self) -> dict[str, Any]:
        """Return the words, pictures and table that stand in the page now."""
        return self.root.evaluate(SHOWN)

    def picture(self) -> tuple[str, ...]:
        """Return what is drawn: every picture's bytes, and the table where one stands for it."""
        shown = self.shown()
        return (*shown["pictures"], shown["table"])

    def difference(self) -> str:
        """Return in what the page is not what its twin says; nothing where they agree."""
        shown = self.shown()
        words = [squeezed(text) for text in shown["words"]]
        for mine, twins in zip(words, self.twin.words(), strict=True):
            if mine != twins:
                return f"the page says\n{mine}\nand the code\n{twins}"
        said = [tuple(names) for names in shown["sliders"]]
        if said != self.twin.sliders():
            return f"a screen reader says {said} of the sliders, not {self.twin.sliders()}"
        for source, picture in zip(shown["pictures"], self.twin.pictures(), strict=True):
            if bytes_of(source) != picture.value:
                return "the picture in the page is not the one that the code draws"
        return ""

    def agree(self, after: str) -> None:
        """Wait until the page shows what the code says."""
        self.actions += 1
        deadline = time.monotonic() + PATIENCE
        while difference := self.difference():
            assert time.monotonic() < deadline, f"{self.twin.name}, {after}: {difference}"
            time.sleep(0.02)

    def start_clock(self) -> None:
        """Measure from keys pressed in this panel to its next picture."""
        self.root.evaluate(CLOCK)

    def note_time(self) -> None:
        """Keep the time from the last key to the picture it brought."""
        clock = self.page.evaluate("window.alloraClock")
        if clock["shown"]:
            self.milliseconds.append(clock["shown"] - clock["pressed"])


def bytes_of(source: str) -> bytes:
    """Return the bytes in an image's data URL."""
    return base64.b64decode(source.partition("base64,")[2])
