"""An archive that could write outside its folder is refused before anything is read from it."""

import gzip
import io
import tarfile
import zipfile

import pytest

from allora_lab.data.archive import (
    read_tar_member,
    read_zip_member,
    require_safe_names,
    unpacked,
)

UNSAFE = ["/etc/passwd", "../up.txt", "a/../../up.txt", "C:\\x.txt", "a\\..\\..\\x", "\\\\host\\x"]


def zip_of(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in members:
            bundle.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def tar_of(*members: tuple[str, bytes, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            info.size = len(content)
            bundle.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_a_member_is_read_from_a_zip_and_from_a_tar():
    assert read_zip_member(zip_of(("a/b.txt", b"one")), "a/b.txt", "z.zip") == b"one"
    tar = tar_of(("a", b"", tarfile.DIRTYPE), ("a/b.txt", b"two", tarfile.REGTYPE))
    assert read_tar_member(tar, "a/b.txt", "t.tar") == b"two"


@pytest.mark.parametrize("name", UNSAFE)
def test_a_name_that_leaves_its_folder_is_refused_in_either_kind(name: str):
    with pytest.raises(ValueError, match="a path that leaves its folder"):
        read_zip_member(zip_of(("good.txt", b"1"), (name, b"2")), "good.txt", "z.zip")
    tar = tar_of(("good.txt", b"1", tarfile.REGTYPE), (name, b"2", tarfile.REGTYPE))
    with pytest.raises(ValueError, match=r"t\.tar holds .* a path that leaves its folder"):
        read_tar_member(tar, "good.txt", "t.tar")


def test_names_that_only_look_unsafe_are_allowed():
    require_safe_names(["a..b/c", "..a", "a/...", "a/b.txt"], "z.zip")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(kind: bytes):
    tar = tar_of(("good.txt", b"1", tarfile.REGTYPE), ("odd", b"", kind))
    with pytest.raises(ValueError, match="a link or a device, 'odd'"):
        read_tar_member(tar, "good.txt", "t.tar")


def test_a_link_in_a_zip_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        link = zipfile.ZipInfo("odd")
        link.external_attr = 0o120777 << 16
        bundle.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match="holds a link, 'odd'"):
        read_zip_member(buffer.getvalue(), "odd", "z.zip")


@pytest.mark.parametrize("cut", [0, 3, 40, -6])
def test_an_archive_cut_short_is_called_damaged(cut: int):
    noise = bytes(range(256)) * 8
    with pytest.raises(ValueError, match=r"z\.zip is damaged or cut short"):
        read_zip_member(zip_of(("a", noise))[:cut], "a", "z.zip")
    with pytest.raises(ValueError, match=r"t\.tar is damaged or cut short"):
        read_tar_member(tar_of(("a", noise, tarfile.REGTYPE))[:cut], "a", "t.tar")


def test_a_member_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"z\.zip holds no file 'b'"):
        read_zip_member(zip_of(("a", b"")), "b", "z.zip")
    tar = tar_of(("a", b"", tarfile.DIRTYPE))
    for absent in ("a", "b"):
        with pytest.raises(ValueError, match=f"holds no file '{absent}'"):
            read_tar_member(tar, absent, "t.tar")


def test_a_member_that_unpacks_to_more_than_the_limit_is_refused_in_either_kind(monkeypatch):
    monkeypatch.setattr("allora_lab.data.archive.LARGEST", 50_000)
    for content, too_large in ((bytes(30_000), False), (bytes(60_000), True)):
        archives = zip_of(("a", content)), tar_of(("a", content, tarfile.REGTYPE))
        for data, read in zip(archives, (read_zip_member, read_tar_member), strict=True):
            assert len(data) < 1000
            if too_large:
                with pytest.raises(ValueError, match="unpacks to more than"):
                    read(data, "a", "x")
            else:
                assert read(data, "a", "x") == content
    with pytest.raises(ValueError, match="unpacks to more than"):
        unpacked(gzip.compress(bytes(50_001)), "x.gz")
