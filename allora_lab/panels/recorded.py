"""A panel whose controls offer only settings that are recorded."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from allora_lab.panels.base import Panel


class RecordedPanel(Panel):
    """A panel in which every control offers what is recorded for the controls before it.

    The first control offers all of its recorded values.  When it moves, each later control is cut
    to the values recorded for those before it, and stays where it is if it can.  A control with a
    single recorded value is switched off.

    Parameters
    ----------
    controls, draw, computed_by
        As for `Panel`; `draw` is called with recorded settings only.
    recorded
        The recorded settings, each with one value for every name in `names`.  If it is empty, every
        control offers all of its values.
    names
        The controls that make up a setting, the leading one first.
    """

    def __init__(
        self,
        controls: Mapping[str, widgets.Widget],
        draw: Callable[..., tuple[Figure, str]],
        recorded: Collection[tuple[Any, ...]],
        names: Sequence[str],
        computed_by: Sequence[Callable[..., Any]] = (),
    ) -> None:
        self._recorded, self._names = frozenset(recorded), tuple(names)
        self._every = {name: controls[name]._options_full for name in names}
        self._first = {name: controls[name].value for name in names}
        self._is_narrowing = False
        super().__init__(controls, draw, computed_by=computed_by)

    def refresh(self) -> None:
        """Cut the controls to what is recorded, and redraw."""
        self._offer(self._recorded)
        super().refresh()

    def _offer(self, recorded: Collection[tuple[Any, ...]]) -> None:
        self._is_narrowing = True
        left = recorded
        for place, name in enumerate(self._names):
            found = {setting[place] for setting in left}
            offered = [pair for pair in self._every[name] if pair[1] in found or not recorded]
            self._show(name, offered)
            left = {s for s in left if s[place] == self.controls[name].value}
        self._is_narrowing = False

    def _show(self, name: str, offered: Sequence[tuple[str, Any]]) -> None:
        """Offer some values of a control; of one alone the others stay in sight, switched off."""
        control, values = self.controls[name], [value for _, value in offered]
        kept = control.value if control.value in values else self._first[name]
        kept = kept if kept in values else values[0]
        shown = tuple(offered) if len(values) > 1 else self._every[name]
        with control.hold_sync():
            if tuple(control._options_full) != tuple(shown):
                control.options = shown
            control.value, control.disabled = kept, len(values) == 1

    def _on_change(self, change: object) -> None:
        if not self._is_narrowing:
            super()._on_change(change)

    def _on_reset(self, button: object) -> None:
        self._offer(())  # the start may not be among what is offered now
        super()._on_reset(button)
