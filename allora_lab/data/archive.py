"""Members of zip and tar archives, read in memory after every member's name was checked.

Nothing is unpacked to disk, and no member above 256 MiB in memory.  An archive that holds an
absolute name, a name that climbs with `..`, a link or a device is refused as a whole, whichever
member was asked for.
"""

import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath

GZIP_MAGIC = b"\x1f\x8b"
LARGEST = 256 * 2**20  # bytes; every archive the lab reads is far smaller
REMEDY = "do not use it, and fetch the archive again"


def unpacked(data: bytes, archive: str) -> bytes:
    """Return gzipped bytes unpacked.

    Raises
    ------
    ValueError
        When they unpack to more than 256 MiB.
    gzip.BadGzipFile, zlib.error, EOFError
        When they are damaged or cut short.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        return read_bounded(stream, archive)


def read_bounded(stream: io.BufferedIOBase, archive: str) -> bytes:
    """Return what a stream holds, read to its end, where its checksum is.

    Raises ValueError when that is more than 256 MiB.
    """
    content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(
            f"{archive} unpacks to more than {LARGEST // 2**20} MiB: unpack it yourself if it is "
            "meant to be so large"
        )
    return content


def require_safe_names(names: Iterable[str], archive: str) -> None:
    r"""Raise ValueError if a member's name is absolute or climbs out with `..`.

    Names are read as both POSIX and Windows would, so ``C:\x`` and ``a\..\b`` count too.
    """
    for name in names:
        windows = PureWindowsPath(name)
        leaves = PurePosixPath(name).is_absolute() or bool(windows.anchor)
        if leaves or ".." in windows.parts:
            raise ValueError(f"{archive} holds {name!r}, a path that leaves its folder: {REMEDY}")


def read_zip_member(data: bytes, member: str, archive: str) -> bytes:
    """Return one member of a zip archive given as bytes.

    Parameters
    ----------
    data
        The whole archive.
    member
        The member's full name.
    archive
        What to call the archive in an error.

    Raises
    ------
    ValueError
        For a damaged archive, an unsafe name, a link, or a member that is not there or too large.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as bundle:
            require_safe_names(bundle.namelist(), archive)
            for info in bundle.infolist():
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise ValueError(f"{archive} holds a link, {info.filename!r}: {REMEDY}")
            with bundle.open(member) as stream:
                return read_bounded(stream, archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OverflowError) as error:
        raise _damaged(archive) from error
    except KeyError as error:
        raise _absent(archive, member) from error


def read_tar_member(data: bytes, member: str, archive: str) -> bytes:
    """Return one member of a tar archive, gzipped or not, given as bytes.

    Parameters and errors as for `read_zip_member`; devices and pipes are refused as links are.
    """
    try:
        # whole first: tarfile stops before gzip's own checksum, which would go unread
        plain = unpacked(data, archive) if data.startswith(GZIP_MAGIC) else data
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as bundle:
            require_safe_names(bundle.getnames(), archive)
            for info in bundle.getmembers():
                if not (info.isreg() or info.isdir()):
                    raise ValueError(f"{archive} holds a link or a device, {info.name!r}: {REMEDY}")
            stream = bundle.extractfile(member)
            if stream is None:  # a folder
                raise _absent(archive, member)
            return read_bounded(stream, archive)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise _damaged(archive) from error
    except KeyError as error:
        raise _absent(archive, member) from error


def _damaged(archive: str) -> ValueError:
    return ValueError(f"{archive} is damaged or cut short: delete it and fetch it again")


def _absent(archive: str, member: str) -> ValueError:
    return ValueError(f"{archive} holds no file {member!r}: it is another archive; fetch it again")
