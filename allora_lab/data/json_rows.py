"""Rows of JSON files, plain or gzipped: a list, or one object a line."""

import gzip
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read_text(path: Path) -> str:
    """Return the text of a file, unpacked where its name ends in .gz.

    Raises ValueError when it is damaged, cut short or not UTF-8.
    """
    try:
        if path.suffix == ".gz":
            return gzip.decompress(path.read_bytes()).decode("utf-8")
        return path.read_text(encoding="utf-8")
    except (gzip.BadGzipFile, zlib.error, EOFError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is damaged or cut short ({error}): put the original back"
        ) from error


def read_rows(path: Path, needed: Sequence[str]) -> list[dict[str, Any]]:
    """Return the objects of a JSON list, or of JSON lines, each with text under the needed names.

    Raises ValueError naming the first row that lacks one, or when the file is no such JSON.
    """
    text = read_text(path)
    try:
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not JSON ({error}): write a list of objects, or one object a line"
        ) from error
    for number, row in enumerate(rows, start=1):
        missing = [
            name
            for name in needed
            if not isinstance(row, dict) or not isinstance(row.get(name), str)
        ]
        if missing:
            raise ValueError(
                f"row {number} of {path} has no text under {missing[0]!r}: each row needs "
                f"{', '.join(needed)}"
            )
    if not rows:
        raise ValueError(f"{path} has no row: each needs {', '.join(needed)}")
    return rows
