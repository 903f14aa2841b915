"""Files that one process holds: temporary files, and claims of work that only one should do.

The lock is the operating system's (flock), so a process that is killed lets go of it, and whoever
finds the file unlocked knows that nobody uses it.  Where there is no flock, as on Windows, every
claim succeeds and no temporary file is removed.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None

ENDING = ".allora-lab"  # marks a file of this module, so that no file of the user's is ever removed
LONGEST_PREFIX = 32  # letters of the name that a temporary file shows


def _locks(handle: int) -> bool:
    """Lock an open file for this process; return False if another process has it locked."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _is_at(path: Path, handle: int) -> bool:
    """Return whether `path` still names the open file, which another process may have removed."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def locked_temporary(folder: Path, name: str) -> tuple[Path, int]:
    """Return a new hidden file of a folder and its handle, which holds the lock until it is closed.

    Raises OSError if the folder cannot be written.
    """
    while True:
        handle, made = tempfile.mkstemp(ENDING, f".{name[:LONGEST_PREFIX]}.", folder)
        path = Path(made)
        if _locks(handle) and _is_at(path, handle):
            return path, handle
        os.close(handle)  # another process took it for abandoned before it was locked
        path.unlink(missing_ok=True)


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Claim what `path` names, and give whether no other process has.

    The claim is a hidden file beside `path`, and ends with the block or with the process.
    """
    file = path.with_name(f".{path.name}.claim{ENDING}")
    file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        is_mine = _locks(handle)
        if not is_mine or _is_at(file, handle):
            break
        os.close(handle)  # its holder removed it meanwhile
    try:
        yield is_mine
    finally:
        if is_mine:
            file.unlink(missing_ok=True)
        os.close(handle)


def abandoned_removed(folder: Path) -> int:
    """Remove the temporary files and claims of a folder that no process holds; return how many."""
    if fcntl is None:
        return 0
    removed = 0
    for path in folder.glob(f".*{ENDING}"):
        try:
            handle = os.open(path, os.O_RDWR)
        except OSError:  # gone meanwhile, or another user's
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, handle):
                path.unlink()
                removed += 1
        except OSError:  # in use
            continue
        finally:
            os.close(handle)
    return removed
