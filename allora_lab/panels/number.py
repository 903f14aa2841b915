"""A question whose answer is a number: Check, and a hint that fits the mistake made."""

import re
from collections.abc import Mapping

import ipywidgets as widgets

from allora_lab.panels.picture import Caption, safe
from allora_lab.panels.tools import PANEL, tools


def number_in(text: str) -> float:
    """Return the number that a student wrote.

    A comma before groups of three digits parts thousands, any other one is a decimal comma; a
    fraction such as 3/4, a percent sign and a typographic minus are understood.

    Parameters
    ----------
    text
        What stands in the box.

    Raises
    ------
    ValueError
        If that is no number.
    """
    words = text.strip().rstrip("%").strip().replace("−", "-").replace(" ", "")
    is_grouped = re.fullmatch(r"-?[1-9]\d{0,2}(,\d{3})+(\.\d*)?", words)
    words = words.replace(",", "" if is_grouped else ".")
    top, bar, bottom = words.partition("/")
    if bar and float(bottom) == 0:
        raise ValueError(f"{text!r} divides by zero")
    return float(top) / float(bottom) if bar else float(top)


class NumberQuestion(widgets.VBox):
    """A box for a number and Check; a known mistake has its own hint, and no hint tells the answer.

    Parameters
    ----------
    prompt
        The question.
    answer
        The right number, not 0.
    right
        The feedback on it: why it is right.
    mistakes
        From each foreseen wrong number to a hint, such as from r times the answer to what was
        forgotten.
    tolerance
        How far from a number, as a share of it, still counts as that number.
    unit
        What stands behind the box.

    Raises
    ------
    ValueError
        If the answer is 0, or a mistake cannot be told from it.
    """

    def __init__(
        self,
        prompt: str,
        answer: float,
        right: str,
        mistakes: Mapping[float, str],
        tolerance: float = 0.02,
        unit: str = "",
    ) -> None:
        self.answer, self.tolerance = answer, tolerance
        if answer == 0:
            raise ValueError("an answer of 0 has no relative tolerance: ask for another number")
        for mistake in mistakes:
            if self._is_near(mistake, answer):
                raise ValueError(
                    f"the mistake {mistake:g} cannot be told from the answer {answer:g}"
                )
        self._right, self._mistakes = right, dict(mistakes)
        self.given = widgets.Text(
            placeholder="a number", description="answer", layout=widgets.Layout(width="16em")
        )
        self.check = widgets.Button(description="Check")
        self.verdict = Caption()
        row = widgets.HBox([self.given, widgets.Label(unit), self.check])
        head = widgets.HTML(safe(f"<b>{prompt}</b>"))
        super().__init__([head, row, self.verdict, tools("")])
        self.add_class(PANEL)
        self.check.on_click(self._on_check)

    def _is_near(self, given: float, number: float) -> bool:
        return abs(given - number) <= self.tolerance * abs(number)

    def hint(self, given: float) -> str:
        """Return the feedback on a number."""
        if self._is_near(given, self.answer):
            return f"<b>Right.</b> {self._right}"
        for mistake, words in self._mistakes.items():
            if self._is_near(given, mistake):
                return f"<b>Not quite.</b> {words}"
        if self._is_near(-given, self.answer):
            return "<b>Not quite.</b> The size is right; look at the sign."
        if abs(given) < abs(self.answer):
            far, word = 10 * abs(given) < abs(self.answer), "small"
        else:
            far, word = abs(given) > 10 * abs(self.answer), "large"
        by = ", by more than a factor of ten" if far else ""
        return f"<b>Not quite.</b> That is too {word}{by}. Write the formula down first."

    def _on_check(self, _button: object) -> None:
        if not self.given.value.strip():
            self.verdict.value = "Write a number first."
            return
        try:
            given = number_in(self.given.value)
        except ValueError:
            self.verdict.value = "That is no number: write it like 0.5, 3/4 or 1,792."
            return
        self.verdict.value = self.hint(given)
