"""Prompts with the answers a decoder is to give, in splits that are the same for every run.

The order follows the SHA-256 of the text, as in `data.splits`, so that the first n of a split are a
fair sample.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from allora_lab.checks import require_at_least
from allora_lab.data.splits import HELD_OUT, SPLIT_SEED


@dataclass(frozen=True)
class Prompt:
    """One text to go on from, and what is to follow.

    `answer` is what is learned; `options` the answers to choose among, of which one is `answer`
    (empty where any text may follow); `references` all texts that count as right when a generated
    one is scored (empty: `answer` alone); `group` the task it belongs to, where a set has several;
    `turns` the (role, content) of a chat up to the answer, for the tokenizer's own template.
    """

    text: str
    answer: str
    options: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    group: str = ""
    turns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PromptSplit:
    """Prompts in a fixed order."""

    prompts: tuple[Prompt, ...]

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self.prompts)

    def first(self, n: int | None) -> "PromptSplit":
        """Return the first n prompts; all of them when n is None or larger."""
        if n is None:
            return self
        require_at_least("the number of prompts to keep", n, 1)
        return PromptSplit(self.prompts[:n])

    def last(self, n: int) -> "PromptSplit":
        """Return the last n prompts; all of them when n is larger."""
        require_at_least("the number of prompts to keep", n, 1)
        return PromptSplit(self.prompts[-n:])


@dataclass(frozen=True)
class PromptDataset:
    """A set of prompts in three splits that share no prompt; the rest is as in `TextDataset`."""

    key: str
    train: PromptSplit
    dev: PromptSplit
    test: PromptSplit
    source: str
    revision: str
    notes: tuple[str, ...] = ()


def in_fixed_order(prompts: Iterable[Prompt]) -> list[Prompt]:
    """Return the prompts, each text and answer once, in the order of their SHA-256."""

    def digest(prompt: Prompt) -> bytes:
        return hashlib.sha256(f"{SPLIT_SEED}\n{prompt.text}\n{prompt.answer}".encode()).digest()

    unique = {(prompt.text, prompt.answer): prompt for prompt in prompts}
    return sorted(unique.values(), key=digest)


PromptRow = tuple[Prompt, ...]  # the prompts of one row of a file, of which a chat has several


def split_rows(
    train: Sequence[PromptRow], dev: Sequence[PromptRow] | None, test: Sequence[PromptRow] | None
) -> tuple[PromptSplit, PromptSplit, PromptSplit]:
    """Keep a set's own splits, each in the fixed order; a None takes one training row in ten.

    A row whose first prompt stands in two splits stays in test before dev before train.
    """
    test_rows = _rows_in_order(test or ())
    dev_rows = _without(_rows_in_order(dev or ()), test_rows)
    rest = _without(_rows_in_order(train), [*test_rows, *dev_rows])
    held = len(rest) // HELD_OUT
    if test is None:
        test_rows, rest = rest[:held], _without(rest[held:], rest[:held])
    if dev is None:
        dev_rows, rest = rest[:held], _without(rest[held:], rest[:held])
    return _flat(rest), _flat(dev_rows), _flat(test_rows)


def _rows_in_order(rows: Sequence[PromptRow]) -> list[PromptRow]:
    """Return the rows, each once, in the order of their last prompts, which hold the others."""
    by_last = {(row[-1].text, row[-1].answer): row for row in rows}
    return [by_last[last.text, last.answer] for last in in_fixed_order(row[-1] for row in rows)]


def _without(rows: Sequence[PromptRow], taken: Sequence[PromptRow]) -> list[PromptRow]:
    texts = {row[0].text for row in taken}
    return [row for row in rows if row[0].text not in texts]


def _flat(rows: Sequence[PromptRow]) -> PromptSplit:
    return PromptSplit(tuple(prompt for row in rows for prompt in row))


def in_turns(prompts: Iterable[Prompt]) -> PromptSplit:
    """Return prompts in the fixed order, one of each group in turn while there are any.

    So the first n hold about as many of each task.
    """
    groups: dict[str, list[Prompt]] = {}
    for prompt in in_fixed_order(prompts):
        groups.setdefault(prompt.group, []).append(prompt)
    ranked = [
        (place, group, prompt)
        for group, members in sorted(groups.items())
        for place, prompt in enumerate(members)
    ]
    return PromptSplit(tuple(p for *_, p in sorted(ranked, key=lambda row: row[:2])))
