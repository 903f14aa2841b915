"""What stands under a picture, and what someone without a mouse or without sight has of a panel."""

import io
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Locator, Page

from .notebook_code import squeezed
from .panel_in_page import PanelInPage

STOPS = (
    "[role=slider], select, input:not([type=radio]):enabled, button:enabled, a[download], summary, "
    ".widget-radio-box"
)
FOCUSED = """root => {
    const at = document.activeElement;
    if (!root.contains(at)) return null;
    const style = getComputedStyle(at);
    const outlined = style.outlineStyle != 'none' && parseFloat(style.outlineWidth) > 0;
    return {
        place: [...root.querySelectorAll('*')].indexOf(at.closest('.widget-radio-box') ?? at),
        name: at.outerHTML.slice(0, 80),
        visible: outlined || style.boxShadow != 'none',
    };
}"""
PLACES = """(root, stops) => [...root.querySelectorAll('*')].map((e, i) => e.matches(stops) ? i : -1)
    .filter(i => i >= 0)"""


def saved(panel: PanelInPage, kind: str) -> bytes:
    """Press "Save SVG" or "Save PNG" and return the file that comes down."""
    with panel.page.expect_download() as coming:
        panel.root.get_by_role("link", name=f"Save {kind.upper()}").click()
    assert coming.value.suggested_filename.endswith(f".{kind}")
    return Path(coming.value.path()).read_bytes()


def save_both(panel: PanelInPage) -> None:
    """Save the picture in both formats: the SVG is the picture's bytes, the PNG is twice as large."""
    assert saved(panel, "svg") == panel.twin.pictures()[0].value
    with Image.open(io.BytesIO(saved(panel, "png"))) as png:
        wide = panel.root.locator(".allora-picture img").evaluate("i => 2 * i.naturalWidth")
        assert png.format == "PNG"
        assert png.width == wide > 800
        assert len(png.convert("RGB").quantize(16).getcolors()) > 3  # not a blank page


def node_of(page: Page, element: Locator) -> dict[str, Any]:
    """Return what Chromium's accessibility tree has of an element."""
    element.evaluate("e => { window.alloraAsked = e; }")
    client = page.context.new_cdp_session(page)
    found = client.send("Runtime.evaluate", {"expression": "window.alloraAsked"})
    asked = {"objectId": found["result"]["objectId"], "fetchRelatives": False}
    node = client.send("Accessibility.getPartialAXTree", asked)["nodes"][0]
    client.detach()
    return node


def read_to_the_blind(panel: PanelInPage) -> None:
    """Check that each picture's name is its caption and that captions are read when they change."""
    for image, picture in zip(
        panel.root.locator(".allora-picture img").all(), panel.twin.pictures(), strict=True
    ):
        node = node_of(panel.page, image)
        assert node["role"]["value"] in ("image", "img")
        assert squeezed(node["name"]["value"]) == squeezed(picture.words)
    for caption in panel.root.locator(".allora-caption [role=status]").all():
        node = node_of(panel.page, caption)
        live = {p["name"]: p["value"].get("value") for p in node["properties"]}
        assert (node["role"]["value"], live["live"]) == ("status", "polite")


def tab_through(panel: PanelInPage) -> None:
    """Go through a panel by Tab: every part is reached, and one sees where one is."""
    panel.root.locator("[role=slider], select, input, button").first.focus()
    panel.page.keyboard.press("Shift")  # a browser shows the focus to those who use keys
    reached = set()
    while focused := panel.root.evaluate(FOCUSED):
        assert focused["visible"], f"{panel.twin.name}: no one sees the focus on {focused['name']}"
        reached.add(focused["place"])
        panel.page.keyboard.press("Tab")
    missing = set(panel.root.evaluate(PLACES, STOPS)) - reached
    assert not missing, f"{panel.twin.name}: {len(missing)} parts cannot be reached by Tab"
