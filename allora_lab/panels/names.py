"""What a screen reader says of a slider: its label, and the value that stands beside it.

ipywidgets writes both as text next to a handle that has neither, so a reader hears "slider, 2" of a
rank of 4.  `NAME_SLIDERS` runs in the page when a picture is first shown: it names every handle of
the picture's panel, and again whenever a text of the panel changes.
"""

from allora_lab.panels.tools import PANEL

NAME_SLIDERS = f"""
const panel = this.closest('.{PANEL}');
if (panel && !panel.alloraNames) {{
    const name = () => panel.querySelectorAll('[role=slider]').forEach(handle => {{
        const row = handle.closest('.widget-slider');
        handle.setAttribute('aria-label', row.querySelector('.widget-label').textContent);
        handle.setAttribute('aria-valuetext', row.querySelector('.widget-readout').textContent);
    }});
    panel.alloraNames = new MutationObserver(name);
    panel.alloraNames.observe(panel, {{subtree: true, childList: true, characterData: true}});
    name();
}}"""
