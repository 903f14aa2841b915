"""Data of the user's own: labelled texts, instructions or chats, in splits that no run's seed moves.

One row in ten goes to dev and one in ten to test, unless a folder has them: the first of the order
that the SHA-256 of each text gives, as everywhere in the lab.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from allora_lab.data.chat import chat_row
from allora_lab.data.instructions import instruction_row
from allora_lab.data.json_rows import Numbered, text_of
from allora_lab.data.own_files import OwnRows, first_row, is_own, read_own
from allora_lab.data.prompts import PromptDataset, PromptRow, split_rows
from allora_lab.data.splits import HELD_OUT, TextDataset, own_splits

__all__ = ["holds_texts", "is_own", "load_own"]

FORMS = {
    "text and label": ("text", "label"),
    "instruction and output": ("instruction", "output"),
    "messages": ("messages",),
}
NEEDED = "each row needs text and label, or instruction and output, or messages"
RULE = "by the SHA-256 of its text, the same in every run"
SHOWN = 10  # names of labels


def holds_texts(key: str) -> bool:
    """Return whether a user's data set is of labelled texts; it is of prompts otherwise.

    The first row tells.  Raises as `load_own`.
    """
    first = first_row(Path(key))
    if first is None:
        raise ValueError(f"{key} has no row: {NEEDED}")
    return _form(first) == "text and label"


def load_own(key: str) -> TextDataset | PromptDataset:
    """Return a file or folder of the user's own as a data set.

    Raises
    ------
    ValueError
        When a row is malformed, which it names; when a label is the only one, or there are too few
        rows to hold one out; or when a split would be empty.
    FileNotFoundError, ModuleNotFoundError
        As `own_files.read_own`.
    """
    own = read_own(Path(key))
    if not own.splits["train"]:
        raise ValueError(f"{key} has no row: {NEEDED}")
    form = _form(own.splits["train"][0])
    if form == "text and label":
        return _texts(key, own)
    read, noun = (chat_row, "answers") if form == "messages" else (instruction_row, "rows")
    rows = {split: [*map(read, part)] for split, part in own.splits.items()}
    return _prompts(key, own, rows, noun)


def _form(first: Numbered) -> str:
    where, row = first
    for form, names in FORMS.items():
        if all(name in row for name in names):
            return form
    got = ", ".join(map(str, row)) or "nothing"
    raise ValueError(f"{where} has {got:.60}: {NEEDED}")


def _texts(key: str, own: OwnRows) -> TextDataset:
    labelled = {split: [*map(_labelled, rows)] for split, rows in own.splits.items()}
    every = [pair for pairs in labelled.values() for pair in pairs]
    names = own.label_names or _in_order({label for _, label in every})
    _require_classes(key, own, names, unknown={label for _, label in every} - {*names})
    numbers = {name: number for number, name in enumerate(names)}
    numbered = {s: [(text, numbers[x]) for text, x in pairs] for s, pairs in labelled.items()}
    train, dev, test = own_splits(numbered["train"], numbered.get("dev"), numbered.get("test"))
    sizes = {"train": len(train), "dev": len(dev), "test": len(test)}
    _require_filled(key, sum(sizes.values()), sizes, own.splits)
    notes = _notes(key, len(every), "rows", sizes, own.splits)
    notes += (f"{len(names)} labels: {', '.join(names[:SHOWN])}{', ...' * (len(names) > SHOWN)}",)
    if doubtful := sum(len(found) > 1 for found in _labels_of(every).values()):
        notes += (f"texts with more than one label, of which the first counts: {doubtful}",)
    if unseen := {*dev.labels, *test.labels} - {*train.labels}:
        listed = ", ".join(names[label] for label in sorted(unseen))
        notes += (f"labels without a training row: {listed}",)
    return TextDataset(_name(key), names, train, dev, test, _source(key), own.revision, notes)


def _prompts(
    key: str, own: OwnRows, rows: Mapping[str, Sequence[PromptRow]], noun: str
) -> PromptDataset:
    train, dev, test = split_rows(rows["train"], rows.get("dev"), rows.get("test"))
    sizes = {"train": len(train), "dev": len(dev), "test": len(test)}
    total = sum(len(row) for part in rows.values() for row in part)
    different = {(row[-1].text, row[-1].answer) for row in rows["train"]}
    _require_filled(key, len(different), sizes, own.splits)
    notes = _notes(key, total, noun, sizes, own.splits)
    return PromptDataset(_name(key), train, dev, test, _source(key), own.revision, notes)


def _labelled(numbered: Numbered) -> tuple[str, str]:
    """Return the text and the label's name of a row."""
    where, row = numbered
    text, label = text_of(row, "text", where, NEEDED).strip(), row.get("label")
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"{where} needs text or a whole number as its label, got {label!r:.40}")
    if not text:
        raise ValueError(f"{where} has an empty text: write one, or remove the row")
    return text, text_of({"label": label}, "label", where, NEEDED).strip()


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names in the order of their numbers if all are whole numbers, else of letters."""
    names = sorted(names)
    are_numbers = all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in names)
    return tuple(sorted(names, key=int) if are_numbers else names)


def _labels_of(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for text, label in pairs:
        found.setdefault(text, set()).add(label)
    return found


def _require_classes(key: str, own: OwnRows, names: Sequence[str], unknown: set[str]) -> None:
    if unknown:
        raise ValueError(f"{key} has the label {min(unknown)!r}, which is none of its label names")
    if len(names) < 2:
        raise ValueError(f"every row of {key} has the label {names[0]!r}: a classifier needs two")
    rows = sum(map(len, own.splits.values()))
    if own.label_names is None and 2 * len(names) > rows >= HELD_OUT:
        raise ValueError(
            f"{key} has {len(names)} labels in {rows} rows, where each label needs two rows or more: "
            "check that text and label are not exchanged"
        )


def _notes(
    key: str, total: int, noun: str, sizes: Mapping[str, int], given: Iterable[str]
) -> tuple[str, ...]:
    """Return how many rows each split has and by what rule, and how many are in none."""
    held = [split for split in ("dev", "test") if split not in given]
    listed = ", ".join(f"{count} {split}" for split, count in sizes.items())
    rule = f"; one in ten is held out for {' and one for '.join(held)} {RULE}" if held else ""
    notes = [f"{_name(key)} has {total} {noun}: {listed}{rule}"]
    if left_out := total - sum(sizes.values()):
        notes.append(f"left out because they occur twice or in two splits: {left_out} {noun}")
    return tuple(notes)


def _require_filled(
    key: str, different: int, sizes: Mapping[str, int], given: Iterable[str]
) -> None:
    empty = next((split for split, count in sizes.items() if not count), None)
    if empty is None:
        return
    if {*given} == {"train"} and different < HELD_OUT:
        raise ValueError(
            f"{key} has {different} rows that differ: it takes {HELD_OUT} to hold one out"
        )
    raise ValueError(
        f"{key} leaves no row for {empty}, because rows with the same text or prompt go to one split "
        "and those of dev and test are taken out of train: add rows that differ"
    )


def _name(key: str) -> str:
    return Path(key).resolve().name


def _source(key: str) -> str:
    return f"the {'folder' if Path(key).is_dir() else 'file'} {_name(key)}"
