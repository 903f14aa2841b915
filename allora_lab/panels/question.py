"""A question to answer before looking: choices, Check, and a hint that fits the answer given."""

from collections.abc import Mapping

import ipywidgets as widgets

from allora_lab.panels.picture import Caption, safe
from allora_lab.panels.tools import PANEL, tools


class Question(widgets.VBox):
    """Radio buttons and Check; the verdict helps, whatever was chosen.

    Parameters
    ----------
    prompt
        The question.
    answers
        From each choice to the feedback on it.
    right
        The right choice.
    """

    def __init__(self, prompt: str, answers: Mapping[str, str], right: str) -> None:
        if right not in answers:
            raise ValueError(f"right must be one of the answers, got {right!r}")
        self._answers, self._right = dict(answers), right
        self.choices = widgets.RadioButtons(
            options=list(answers), value=None, layout=widgets.Layout(width="auto")
        )
        self.check = widgets.Button(description="Check")
        self.verdict = Caption()
        head = widgets.HTML(safe(f"<b>{prompt}</b>"))
        super().__init__([head, self.choices, self.check, self.verdict, tools("")])
        self.add_class(PANEL)
        self.check.on_click(self._on_check)

    def _on_check(self, _button: object) -> None:
        given = self.choices.value
        if given is None:
            self.verdict.value = "Choose an answer first."
            return
        word = "Right." if given == self._right else "Not quite."
        self.verdict.value = f"<b>{word}</b> {self._answers[given]}"
