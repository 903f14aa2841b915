"""What a reader does with a panel: drag, press keys, choose, click; and what must follow."""

import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Locator

from allora_lab.panels.base import _label

from .panel_in_page import PanelInPage


def reset(panel: PanelInPage) -> None:
    """Press Reset, in the page and on the twin; panels without one stay as they are."""
    for kind, element, widget in panel.controls():
        if kind == "button" and widget.description == "Reset":
            element.click()
            widget.click()
            panel.agree("Reset")


def position(slider: Locator) -> int:
    """Return which of its values a slider stands at, counted from 0."""
    return round(float(slider.get_by_role("slider").get_attribute("aria-valuenow")))


def follow(slider: Locator, widget: Any) -> None:
    """Move the twin to where the slider in the page stands."""
    widget.index = position(slider)
    assert slider.locator(".widget-readout").inner_text() == _label(widget)


def drag(panel: PanelInPage, slider: Locator, end: int) -> None:
    """Drag a slider's handle with the mouse beyond its left (0) or right (1) end."""
    handle, track = slider.get_by_role("slider"), slider.locator(".noUi-base")
    handle.scroll_into_view_if_needed()
    at, box = handle.bounding_box(), track.bounding_box()
    height = at["y"] + at["height"] / 2
    panel.page.mouse.move(at["x"] + at["width"] / 2, height)
    panel.page.mouse.down()
    panel.page.mouse.move(box["x"] + box["width"] * end + (60 if end else -60), height, steps=2)
    panel.page.mouse.up()


def move_slider(panel: PanelInPage, slider: Locator, widget: Any) -> None:
    """Drag a slider to both ends, then go there by keys, and some steps between."""
    last, ways = len(widget.options) - 1, []
    handle = slider.get_by_role("slider")
    for end in (1, 0):
        drag(panel, slider, end)
        ways.append((end, f"dragged to end {end}"))
        _arrived(panel, slider, widget, last * end, ways[-1][1])
    pictures = []
    for end, key in ((1, "End"), (0, "Home")):
        handle.press(key)
        _arrived(panel, slider, widget, last * end, f"{key} pressed")
        pictures.append((panel.picture(), panel.shown()["words"]))
    assert pictures[0][0] != pictures[1][0], f"{widget.description} changes no picture"
    for step in range(1, min(3, last) + 1):
        handle.press("ArrowRight")
        _arrived(panel, slider, widget, step, "ArrowRight pressed")
        panel.note_time()


def _arrived(panel: PanelInPage, slider: Locator, widget: Any, place: int, how: str) -> None:
    deadline = time.monotonic() + 5
    while position(slider) != place:
        assert time.monotonic() < deadline, f"{widget.description}, {how}: at {position(slider)}"
        time.sleep(0.02)
    follow(slider, widget)
    panel.agree(f"{widget.description} {how}")


def choose_all(panel: PanelInPage, menu: Locator, widget: Any) -> None:
    """Choose every entry of a drop-down list; each must change the picture."""
    select = menu.locator("select")
    labels = [option.inner_text().replace("\xa0", " ") for option in select.locator("option").all()]
    assert labels == list(widget._options_labels)
    assert select.evaluate("list => list.selectedIndex") == widget.index, "not what is chosen"
    pictures = set()
    for number, label in enumerate(labels):
        select.select_option(index=number)
        widget.index = number
        panel.agree(f"{widget.description} is {label}")
        pictures.add(panel.picture())
    assert len(pictures) > 1, f"{widget.description} changes no picture"


def tick(panel: PanelInPage, box: Locator, widget: Any) -> None:
    """Tick a box the other way and back; the picture must change."""
    pictures = set()
    for _ in range(2):
        box.locator("input").click()
        widget.value = not widget.value
        panel.agree(f"{widget.description} is {widget.value}")
        pictures.add(panel.picture())
    assert len(pictures) == 2, f"{widget.description} changes no picture"


def answer_all(panel: PanelInPage, radio: Locator, widget: Any) -> None:
    """Choose each answer and press every other button of the question after it."""
    choices = radio.locator("label:has(input)")
    labels = [text.replace("\xa0", " ") for text in choices.all_inner_texts()]
    assert labels == list(widget._options_labels)
    said = set()
    for number, label in enumerate(labels):
        choices.nth(number).locator("input").check()
        widget.index = number
        press(panel, "Check")
        said.add(tuple(panel.shown()["words"]))
        assert panel.shown()["words"] != [""], f"nothing is said of {label}"
    assert len(said) == len(labels), "two answers get the same words"


def type_numbers(panel: PanelInPage, field: Locator, widget: Any) -> None:
    """Type the largest and the smallest number, and one too large, which is cut."""
    box = field.locator("input")
    for typed in (widget.max, widget.max + 1, widget.min):
        box.fill(str(typed))
        box.press("Enter")
        widget.value = min(typed, widget.max)
        panel.agree(f"{widget.description}: {typed}")
        assert box.input_value() == str(widget.value)
        press(panel, "Check")


def type_answers(panel: PanelInPage, field: Locator, widget: Any) -> None:
    """Type no number, wrong numbers, those of mistakes that are foreseen, and the right one."""
    question = panel.twin.widget
    numbers = [*question._mistakes, -question.answer, 20 * question.answer, question.answer]
    said = []
    for typed in ("", "so many", *map(str, numbers)):
        field.locator("input").fill(typed)
        field.locator("input").press("Tab")
        widget.value = typed
        press(panel, "Check")
        said.append("".join(panel.shown()["words"]))
    assert len(set(said)) == len(said), "two answers get the same words"
    assert "Right." in said[-1]
    assert not any("Right." in words for words in said[:-1])


def press(panel: PanelInPage, name: str) -> None:
    """Press a button by its name, in the page and on the twin, where there is one of that name."""
    for kind, element, widget in panel.controls():
        if kind == "button" and widget.description == name:
            element.click()
            widget.click()
            panel.agree(f"{name} pressed")


MOVES: dict[str, Callable[[PanelInPage, Locator, Any], None]] = {
    "slider": move_slider,
    "menu": choose_all,
    "checkbox": tick,
    "radio": answer_all,
    "number": type_numbers,
    "text": type_answers,
}


def move_every_control(panel: PanelInPage) -> None:
    """Move each control from the start, put it back, and see the first picture again."""
    reset(panel)
    panel.start_clock()
    before = panel.shown()
    for kind, element, widget in panel.controls():
        if kind == "button":
            continue
        assert not widget.disabled, f"{widget.description} cannot be moved at the start"
        MOVES[kind](panel, element, widget)
        reset(panel)
        if panel.twin.has_reset():
            assert panel.shown() == before, f"Reset after {widget.description} leaves a difference"


def to_the_ends(panel: PanelInPage, end: int) -> None:
    """Move every slider that can be moved to one end, by the keyboard."""
    for kind, element, widget in panel.controls():
        if kind == "slider" and not widget.disabled:
            element.get_by_role("slider").press("End" if end else "Home")
            _arrived(panel, element, widget, end * (len(widget.options) - 1), "moved to an end")
