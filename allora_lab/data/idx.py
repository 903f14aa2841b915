"""IDX files, the format of MNIST: a magic number, the sizes, then the bytes."""

import gzip
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from allora_lab.data.archive import read_bounded

UNSIGNED_BYTES = 0x08


def read_idx(path: Path, shape: Sequence[int | None]) -> UInt8[np.ndarray, "..."]:
    """Return the array in a gzipped IDX file of unsigned bytes.

    Parameters
    ----------
    path
        The file.
    shape
        The sizes expected; None where any will do.

    Raises
    ------
    ValueError
        When the file is damaged, not IDX, of other sizes, or shorter or longer than it says.
    """
    try:
        with gzip.open(path) as stream:
            content = read_bounded(stream, str(path))
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise _refused(path, f"is damaged or cut short ({error})") from error
    start = 4 + 4 * len(shape)
    if content[:4] != bytes([0, 0, UNSIGNED_BYTES, len(shape)]) or len(content) < start:
        raise _refused(path, f"is not an IDX file of bytes in {len(shape)} dimensions")
    sizes = struct.unpack(f">{len(shape)}I", content[4:start])
    if any(want not in (None, size) for want, size in zip(shape, sizes, strict=True)):
        raise _refused(path, f"holds an array of {sizes}, expected {_words(shape)}")
    if len(content) - start != np.prod(sizes, dtype=np.int64):
        raise _refused(path, f"holds {len(content) - start} bytes, but says {sizes}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)


def _words(shape: Sequence[int | None]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def _refused(path: Path, what: str) -> ValueError:
    return ValueError(f"{path} {what}: put the original file back")
