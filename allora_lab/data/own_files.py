"""Files of the user's own as numbered rows: CSV, TSV, JSON, JSON lines, or a folder of splits.

A folder holds train, dev (or validation, valid, val) and test in one of these forms, or is what
`save_to_disk` of the library datasets writes.  Splits that a folder lacks are taken out of train.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allora_lab.data.json_rows import Numbered, numbered_rows, read_text
from allora_lab.data.local import digest_of
from allora_lab.files import sha256_of
from allora_lab.models.refusal import Refusing

ENDINGS = tuple(f".{kind}{gz}" for kind in ("csv", "tsv", "json", "jsonl") for gz in ("", ".gz"))
DEV_NAMES = ("dev", "validation", "valid", "val")
SAVED = ("dataset_dict.json", "state.json")  # either marks a folder of the library datasets
COLUMNS = ("text", "label", "instruction", "input", "output", "messages")
FOLDER = "a folder needs train.csv, .tsv, .json or .jsonl, and may have dev and test"


@dataclass(frozen=True)
class OwnRows:
    """The rows of each split there is, the labels' names where they come in an order, the digest."""

    splits: Mapping[str, Sequence[Numbered]]
    label_names: tuple[str, ...] | None
    revision: str


def is_own(key: str) -> bool:
    """Return whether a data set's key is the path of such a file, there or not, or of a folder."""
    return key.endswith(ENDINGS) or (bool(key) and Path(key).is_dir())


def read_own(path: Path) -> OwnRows:
    """Return the rows of a file or folder.

    Raises
    ------
    FileNotFoundError
        When there is no such file, or the folder has no training rows.
    ValueError
        When a file is not of its form, or two files are of one split.
    ModuleNotFoundError
        When a folder of the library datasets is named and the library is not installed.
    """
    if path.is_dir() and any((path / name).is_file() for name in SAVED):
        return _saved(path)
    files = _split_files(path) if path.is_dir() else {"train": path}
    for file in files.values():
        if not file.is_file():
            raise FileNotFoundError(f"there is no file {file}: correct the name of the data set")
    rows = {split: [*_rows(file)] for split, file in files.items()}
    return OwnRows(rows, None, revision_of(path))


def revision_of(path: Path) -> str:
    """Return the digest of a file's or folder's content, as `read_own` gives it; raises as that."""
    if not path.is_dir():
        return sha256_of(path)
    if any((path / name).is_file() for name in SAVED):
        return digest_of(_saved_files(path))
    return digest_of([*_split_files(path).values()])


def first_row(path: Path) -> Numbered | None:
    """Return the first row of the training split, which tells the form of all; None for no row.

    Raises as `read_own`.
    """
    if path.is_file():
        return next(_rows(path), None)
    return next(iter(read_own(path).splits["train"]), None)


def _split_files(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for split, names in (("train", ("train",)), ("dev", DEV_NAMES), ("test", ("test",))):
        paths = [folder / f"{name}{end}" for name in names for end in ENDINGS]
        there = [path for path in paths if path.is_file()]
        if len(there) > 1:
            raise ValueError(
                f"{folder} has {there[0].name} and {there[1].name}: keep one file of each split"
            )
        if there:
            found[split] = there[0]
    if "train" not in found:
        raise FileNotFoundError(f"the folder {folder} has no training rows: {FOLDER}")
    return found


def _rows(path: Path) -> Iterator[Numbered]:
    suffix = Path(path.name.removesuffix(".gz")).suffix
    return numbered_rows(path) if suffix.startswith(".json") else _table_rows(path, suffix)


def _table_rows(path: Path, suffix: str) -> Iterator[Numbered]:
    """Yield each row of a CSV or TSV file under the names of its first line."""
    delimiter, word = ("\t", "tab") if suffix == ".tsv" else (",", "comma")
    text = io.StringIO(read_text(path), newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            where, line = f"line {line} of {path}", reader.line_num + 1
            if not header:
                header = _header(cells, where)
            elif len(cells) == len(header):
                yield where, dict(zip(header, cells, strict=True))
            elif cells:
                raise ValueError(
                    f"{where} has {len(cells)} columns and the first line {len(header)}: put a text "
                    f"that holds a {word}, a quote or a line break in double quotes"
                )
    except csv.Error as error:
        raise ValueError(
            f"line {line} of {path} is not {suffix[1:].upper()} ({error}): put a text that holds a "
            f'{word}, a quote or a line break in double quotes, and write a quote in it as ""'
        ) from error


def _header(cells: Sequence[str], where: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    if len(set(names)) < len(names) or not set(COLUMNS) & set(names):
        raise ValueError(
            f"{where} must name the columns, such as text,label, each once; got "
            f"{', '.join(names)!r:.60}"
        )
    return names


def _saved(folder: Path) -> OwnRows:
    """Return the rows of a folder that `save_to_disk` wrote."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"reading {folder} needs the library datasets: pip install 'allora-lab[hub]'"
        ) from error
    with Refusing(f"{folder} is no folder that save_to_disk of the library datasets wrote"):
        saved = datasets.load_from_disk(str(folder))
        if isinstance(saved, datasets.Dataset):
            saved = {"train": saved}
        found = {"dev" if name in DEV_NAMES else name: part for name, part in saved.items()}
        rows = {
            split: [*_saved_rows(found[split], f"the split {split} of {folder}")]
            for split in ("train", "dev", "test")
            if split in found
        }
    if "train" not in rows:
        raise FileNotFoundError(f"{folder} has the splits {', '.join(found)}, and no train: add it")
    kind = found["train"].features.get("label")
    names = tuple(kind.names) if isinstance(kind, datasets.ClassLabel) else None
    return OwnRows(rows, names, digest_of(_saved_files(folder)))


def _saved_files(folder: Path) -> list[Path]:
    """Return the files of a folder of the library datasets, without those it caches."""
    return sorted(
        path
        for end in ("arrow", "json")
        for path in folder.rglob(f"*.{end}")
        if not path.name.startswith("cache-")
    )


def _saved_rows(part: Any, where: str) -> Iterator[Numbered]:
    kind = part.features.get("label")
    names = getattr(kind, "names", None)
    columns = [name for name in COLUMNS if name in part.column_names]
    for number, row in enumerate(part.select_columns(columns), start=1):
        if names and isinstance(row["label"], int) and 0 <= row["label"] < len(names):
            row = {**row, "label": names[row["label"]]}
        yield f"row {number} of {where}", row
