"""Rows of JSON files, plain or gzipped: a list, or one object a line."""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from allora_lab.data.archive import unpacked

Row = dict[str, Any]
Numbered = tuple[str, Row]  # where a row is, such as "line 7 of rows.jsonl", and the row


def read_text(path: Path) -> str:
    """Return the text of a file, unpacked where its name ends in .gz, without a byte order mark.

    Raises ValueError when it is damaged, cut short, not UTF-8, or unpacks to more than 256 MiB.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = unpacked(content, str(path))
        return content.decode("utf-8-sig")
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(
            f"{path} is damaged or cut short ({error}): put the original back"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error


def numbered_rows(path: Path) -> Iterator[Numbered]:
    """Yield each object of a JSON list, or of JSON lines, after the words that say where it is.

    Lines end in a line feed alone: U+2028 is a character like any other inside a JSON string.

    Raises ValueError naming the line or row that is no JSON, or no object.
    """
    text = read_text(path)
    if text.lstrip().startswith("["):
        values = _parsed(text, path, 1)
        numbered = ((f"row {n} of {path}", value) for n, value in enumerate(values, start=1))
    else:
        numbered = (
            (f"line {n} of {path}", _parsed(line, path, n))
            for n, line in enumerate(text.split("\n"), start=1)
            if line.strip()
        )
    for where, value in numbered:
        if not isinstance(value, dict):
            raise _no_object(where, value)
        yield where, value


def _no_object(where: str, value: Any) -> ValueError:
    return ValueError(f"{where} must be a JSON object such as {{...}}, got {value!r:.40}")


def _parsed(text: str, path: Path, line: int) -> Any:
    """Parse JSON that starts at a line of a file."""
    expected = "write a list of objects, or one object a line"
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {line + error.lineno - 1} of {path}"
        reason = f"{error.msg} at column {error.colno}"
        raise ValueError(f"{place} is not JSON ({reason}): {expected}") from error
    except RecursionError as error:
        raise ValueError(f"line {line} of {path} is nested too deeply: {expected}") from error
    except ValueError as error:  # a whole number of thousands of digits
        raise ValueError(f"line {line} of {path} is not JSON ({error}): {expected}") from error


def text_of(row: Row, name: str, where: str, expected: str) -> str:
    """Return the text under a name of a row.

    Raises ValueError when it is missing, no text, or no Unicode that UTF-8 can write.
    """
    value = row.get(name)
    try:
        str.encode(value)
    except TypeError as error:
        raise ValueError(f"{where} has no text under {name!r}: {expected}") from error
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where} has half a surrogate pair under {name!r}, which is no character: remove it"
        ) from error
    return value


def read_rows(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> list[Row]:
    """Return the objects of a JSON list, or of JSON lines, each with text under the needed names.

    What is under an optional name must be text too, if there is anything.

    Raises ValueError naming the first row that is otherwise, or when the file is no such JSON.
    """
    expected = f"each row needs {', '.join(needed)}"
    rows = []
    for where, row in numbered_rows(path):
        for name in (*needed, *(name for name in optional if row.get(name) is not None)):
            text_of(row, name, where, expected)
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} has no row: each needs {', '.join(needed)}")
    return rows
