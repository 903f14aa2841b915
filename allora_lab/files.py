"""Files that are whole or absent, and the folders the lab reads and writes."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

REPOSITORY = Path(__file__).resolve().parent.parent


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its name only if the block succeeds.

    A process killed at any instant leaves the old file or none, never half of one.  Raises
    OSError with one sentence when the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise OSError(
            f"cannot write to {path.parent} ({error.strerror}): name a folder you may write to"
        ) from error
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Raise OSError with one sentence unless files can be written to `folder`; leaves none."""
    with written_whole(folder / ".probe"):
        pass
    (folder / ".probe").unlink()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cache_folder() -> Path:
    """Return where fetched files are kept: ALLORA_LAB_CACHE, else the user's cache folder."""
    return Path(os.environ.get("ALLORA_LAB_CACHE") or platformdirs.user_cache_dir("allora-lab"))


def local_data_folder() -> Path | None:
    """Return the folder of full data sets named by ALLORA_LAB_DATA, or None when it is unset."""
    folder = os.environ.get("ALLORA_LAB_DATA")
    return Path(folder) if folder else None


def results_folder() -> Path:
    """Return where records are kept: ALLORA_LAB_RESULTS, else `results/` of this repository."""
    return Path(os.environ.get("ALLORA_LAB_RESULTS") or REPOSITORY / "results")
