"""Images decoded once: an array in the cache folder, named after what it was decoded from."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from allora_lab.files import cache_folder, written_whole


def cached_rows(
    name: str, source_sha256: str, decode: Callable[[], UInt8[np.ndarray, "n row"]]
) -> UInt8[np.ndarray, "n row"]:
    """Return the rows kept for a source, decoded now if there are none.

    The source's SHA-256 stands in the file's name, so another source is decoded anew.  A cache
    that cannot be written is said in one sentence (OSError); a damaged one is a ValueError.
    """
    path = cache_folder() / "images" / f"{name}-{source_sha256}.npy"
    if not path.is_file():
        rows = decode()
        with written_whole(path) as partial, partial.open("wb") as stream:
            np.save(stream, rows, allow_pickle=False)
        return rows
    return _read(path)


def _read(path: Path) -> UInt8[np.ndarray, "n row"]:
    try:
        rows = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise _damaged(path) from error
    if rows.dtype != np.uint8 or rows.ndim != 2:
        raise _damaged(path)
    return rows


def _damaged(path: Path) -> ValueError:
    return ValueError(f"{path} is damaged or cut short: delete it and run again to decode it anew")
