"""Texts with labels, and splits that are the same for every run.

The order inside every split, and the splits of a set that has none of its own, follow the SHA-256
of "seed, text" with seed 0.  That is a fixed shuffle that depends on no library's generator and on
no run's seed, so two runs with other seeds learn from and are scored on the same texts.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from allora_lab.checks import require_at_least

SPLIT_SEED = 0
HELD_OUT = 10  # one text in ten for dev, one in ten for test


@dataclass(frozen=True)
class Split:
    """Texts and their labels, as many of the one as of the other; labels count from 0."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ValueError(
                f"a split needs one label a text, got {len(self.texts)} texts and "
                f"{len(self.labels)} labels"
            )

    def __len__(self) -> int:
        return len(self.texts)

    def first(self, n: int | None) -> "Split":
        """Return the first n texts with their labels; all of them when n is None or larger."""
        if n is None:
            return self
        require_at_least("the number of texts to keep", n, 1)
        return Split(self.texts[:n], self.labels[:n])

    def last(self, n: int) -> "Split":
        """Return the last n texts with their labels; all of them when n is larger."""
        require_at_least("the number of texts to keep", n, 1)
        return Split(self.texts[-n:], self.labels[-n:])


@dataclass(frozen=True)
class TextDataset:
    """A labelled text data set in three splits that share no text.

    `label_names[i]` names label i; `source` says in words where the texts came from; `revision`
    is the SHA-256 of the source archive or of the local files, or the hub's commit; `notes` are
    sentences for its user, such as how many rows are held out.
    """

    key: str
    label_names: tuple[str, ...]
    train: Split
    dev: Split
    test: Split
    source: str
    revision: str
    notes: tuple[str, ...] = ()


def unique_texts(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return text → label with outer blanks cut and empty texts left out.

    Of texts that stand there twice the first is kept, and its label with it.
    """
    labels: dict[str, int] = {}
    for text, label in pairs:
        if text.strip():
            labels.setdefault(text.strip(), label)
    return labels


def split_by_hash(pairs: Iterable[tuple[str, int]]) -> tuple[Split, Split, Split]:
    """Split the unique texts 80/10/10 into train, dev and test, without stratifying by label."""
    return own_splits(pairs, None, None)


def own_splits(
    train: Iterable[tuple[str, int]],
    dev: Iterable[tuple[str, int]] | None,
    test: Iterable[tuple[str, int]] | None,
) -> tuple[Split, Split, Split]:
    """Keep a set's own splits, each in the fixed order; a None takes one train text in ten.

    A text that stands in two splits stays in test before dev before train, so that what is
    measured keeps its texts and what is learned from loses them.
    """
    test_labels = unique_texts(test or ())
    dev_labels = _without(unique_texts(dev or ()), test_labels)
    train_labels = _without(unique_texts(train), test_labels | dev_labels)
    order = _shuffled(train_labels)
    held = len(order) // HELD_OUT
    if dev is None:
        dev_labels = {text: train_labels[text] for text in order[:held]}
        order = order[held:]
    if test is None:
        test_labels = {text: train_labels[text] for text in order[:held]}
        order = order[held:]
    return (
        _select(order, train_labels),
        _select(_shuffled(dev_labels), dev_labels),
        _select(_shuffled(test_labels), test_labels),
    )


def _without(labels: Mapping[str, int], taken: Mapping[str, int]) -> dict[str, int]:
    return {text: label for text, label in labels.items() if text not in taken}


def _shuffled(texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=lambda text: hashlib.sha256(f"{SPLIT_SEED}\n{text}".encode()).digest())


def _select(texts: list[str], labels: Mapping[str, int]) -> Split:
    return Split(tuple(texts), tuple(labels[text] for text in texts))
