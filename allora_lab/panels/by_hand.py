"""An exercise of notebook 08: give out ranks by hand, as the paper's footnotes 2 and 3 do."""

from collections.abc import Mapping

import ipywidgets as widgets

from allora_lab.allocation.reallocate import spread
from allora_lab.panels.base import reset_button
from allora_lab.panels.picture import Caption
from allora_lab.panels.tools import PANEL, tools


class ByHand(widgets.VBox):
    """Modules with their mean scores, a number of ranks to give out, and Check.

    Parameters
    ----------
    n
        How many ranks there are to give out.
    averages
        The mean score of each module that lost no rank.
    lost
        The modules that lost one, which get none.
    """

    def __init__(self, n: int, averages: Mapping[str, float], lost: tuple[str, ...] = ()) -> None:
        self.n, self.averages, self.lost = n, dict(averages), lost
        rows = [(name, f"{name}, mean score {score:+.2f}") for name, score in averages.items()]
        rows += [(name, f"{name}, which lost a rank") for name in lost]
        self.inputs = {
            name: widgets.BoundedIntText(
                value=0,
                min=0,
                max=n,
                description=text,
                style={"description_width": "15em"},
                layout=widgets.Layout(width="22em"),
            )
            for name, text in rows
        }
        self.check, self.reset = widgets.Button(description="Check"), reset_button()
        self.verdict = Caption()
        prompt = widgets.HTML(f"<b>Give out {n} ranks.</b>")
        buttons = widgets.HBox([self.check, self.reset])
        source = tools("", (spread,))
        super().__init__([prompt, *self.inputs.values(), buttons, self.verdict, source])
        self.add_class(PANEL)
        self.check.on_click(self._on_check)
        self.reset.on_click(self._on_reset)

    def answer(self) -> dict[str, int]:
        """Return the right answer, from the function that the allocator uses."""
        room = dict.fromkeys(self.averages, self.n)
        return {**spread(self.n, self.averages, room), **dict.fromkeys(self.lost, 0)}

    def hint(self) -> str:
        """Return the feedback on the numbers entered now."""
        given = {name: box.value for name, box in self.inputs.items()}
        right = self.answer()
        total, open_to = sum(given.values()), len(self.averages)
        if given == right:
            return "<b>Right.</b> Evenly first; what does not divide goes to the higher means."
        if total != self.n:
            return f"You gave out {total} of {self.n}: the budget stays what it was."
        if any(given[name] for name in self.lost):
            return "A module that has just lost a rank gets none in the same round (Algorithm 1)."
        if max(given[m] for m in self.averages) - min(given[m] for m in self.averages) > 1:
            return f"Evenly first: {self.n} over {open_to} modules is {self.n // open_to} each at least."
        return "The shares are even; now look who gets the ones left over: the higher means."

    def _on_check(self, _button: object) -> None:
        self.verdict.value = self.hint()

    def _on_reset(self, _button: object) -> None:
        for box in self.inputs.values():
            box.value = 0
        self.verdict.value = ""
