"""Full data sets read from the folder that ALLORA_LAB_DATA names."""

import csv
import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from allora_lab.data.splits import Split, TextDataset, own_splits, split_by_hash
from allora_lab.files import local_data_folder, sha256_of

LABEL_NAMES = {
    "rotten_tomatoes": ("negative", "positive"),
    "emotion": ("sadness", "joy", "love", "anger", "fear", "surprise"),
    "yelp": ("1 star", "2 stars", "3 stars", "4 stars", "5 stars"),
}
FILES = {
    "rotten_tomatoes": (
        "rotten_tomatoes/rt-polarity.neg.gz",
        "rotten_tomatoes/rt-polarity.pos.gz",
    ),
    "emotion": ("emotion/train.txt.gz", "emotion/val.txt.gz", "emotion/test.txt.gz"),
    "yelp": ("yelp_stars/dev.csv.gz", "yelp_stars/test.csv.gz"),
}


def local_files(key: str) -> tuple[Path, ...]:
    """Return the files of a data set below ALLORA_LAB_DATA; none when it is unset or lacks the set.

    Raises
    ------
    FileNotFoundError
        When ALLORA_LAB_DATA names no folder, or the folder has only some of the set's files.
    """
    folder = local_data_folder()
    if folder is None:
        return ()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"ALLORA_LAB_DATA names {folder}, which is not a folder: correct it or unset it"
        )
    paths = tuple(folder / name for name in FILES[key])
    missing = [path for path in paths if not path.is_file()]
    if 0 < len(missing) < len(paths):
        raise FileNotFoundError(
            f"the data set {key} in ALLORA_LAB_DATA lacks {missing[0]}: add the file, or remove "
            "the others to have the set fetched from the hub"
        )
    return () if missing else paths


def digest_of(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of the files' SHA-256 digests, written one after the other in order."""
    return hashlib.sha256("".join(sha256_of(path) for path in paths).encode()).hexdigest()


def read_local(key: str, paths: Sequence[Path]) -> TextDataset:
    """Return a data set from the files that `local_files` found.

    rotten_tomatoes and yelp come without a training split and are split 80/10/10 by the fixed
    shuffle; emotion keeps its own splits.

    Raises
    ------
    ValueError
        When a file is damaged, cut short or not of the form expected.
    """
    readers = {"rotten_tomatoes": _rotten_tomatoes, "emotion": _emotion, "yelp": _yelp}
    try:
        train, dev, test = readers[key](paths)
    except (gzip.BadGzipFile, zlib.error, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"a file of {key} in {paths[0].parent} is damaged or cut short ({error}): put the "
            "original back"
        ) from error
    source = f"local files: {', '.join(path.name for path in paths)}"
    return TextDataset(key, LABEL_NAMES[key], train, dev, test, source, digest_of(paths))


def _lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as stream:
        for line in stream:
            yield line.rstrip("\n")


def _rotten_tomatoes(paths: Sequence[Path]) -> tuple[Split, Split, Split]:
    """One snippet a line; the first file is negative, the second positive."""
    return split_by_hash((line, label) for label, path in enumerate(paths) for line in _lines(path))


def _emotion(paths: Sequence[Path]) -> tuple[Split, Split, Split]:
    """Lines of "text;emotion" in train, val and test."""
    train, dev, test = (list(_emotion_pairs(path)) for path in paths)
    return own_splits(train, dev, test)


def _emotion_pairs(path: Path) -> Iterator[tuple[str, int]]:
    names = LABEL_NAMES["emotion"]
    for number, line in enumerate(_lines(path), start=1):
        text, _, name = line.rpartition(";")
        if name in names:
            yield text, names.index(name)
        elif line.strip():
            raise ValueError(
                f"line {number} of {path} ends in {name!r}, not in ';' and one of "
                f"{', '.join(names)}: put the original file back"
            )


def _yelp(paths: Sequence[Path]) -> tuple[Split, Split, Split]:
    """CSV with columns text, label1 (the business) and label2 ("Review Stars: 4.0")."""
    return split_by_hash(pair for path in paths for pair in _yelp_pairs(path))


def _yelp_pairs(path: Path) -> Iterator[tuple[str, int]]:
    stars = {f"Review Stars: {n}.0": n - 1 for n in range(1, 6)}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream), start=1):
            text, rating = row.get("text"), row.get("label2")
            if text is None or rating not in stars:
                raise ValueError(
                    f"row {number} of {path} needs columns text and label2 such as 'Review Stars: "
                    f"4.0', got {rating!r}: put the original file back"
                )
            yield text, stars[rating]
