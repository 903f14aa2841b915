"""Files that are whole or absent, and the folders the lab reads and writes."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from allora_lab.locks import abandoned_removed, locked_temporary

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REPOSITORY = Path(__file__).resolve().parent.parent


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its name only if the block succeeds.

    A process killed at any instant leaves the old file or none, never half of one; its temporary
    file is removed by the next `require_writable` of the folder.

    Raises
    ------
    OSError
        With one sentence, when the folder cannot be made or written, or the disk is full.
    """
    with _temporary(path.parent, path.name) as partial:
        try:
            yield partial
            partial.chmod(0o644)
            partial.replace(path)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise OSError(
                f"cannot write {path} ({error.strerror}): free some space, or name another folder"
            ) from error


@contextmanager
def _temporary(folder: Path, name: str) -> Iterator[Path]:
    """Give a temporary file, locked while the block runs and removed at its end if it is there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial, handle = locked_temporary(folder, name)
    except OSError as error:
        raise OSError(
            f"cannot write to {folder} ({error.strerror}): name a folder you may write to"
        ) from error
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)
        os.close(handle)


def require_writable(folder: Path) -> None:
    """Raise OSError with one sentence unless files can be written to `folder`; leaves none.

    Temporary files that killed processes left there are removed, and no file of anybody else's.
    """
    with _temporary(folder, "probe"):
        abandoned_removed(folder)


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
