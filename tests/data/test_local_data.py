"""Full data sets are read from the folder ALLORA_LAB_DATA names, or the folder's fault is named."""

import gzip
import os
from pathlib import Path

import pytest

from allora_lab.data.local import digest_of, local_files
from allora_lab.data.text import load_text

# counted from the files: train, dev, test
COUNTS = {
    "rotten_tomatoes": (8530, 1066, 1066),
    "emotion": (15953, 1995, 2000),
    "yelp": (8000, 1000, 1000),
}
YELP_HEAD = "text,label1,label2\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALLORA_LAB_DATA", str(tmp_path))
    return tmp_path


def put(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()))


def put_emotion(folder: Path, train: str, val: str = "v;love\n", test: str = "t;joy\n") -> None:
    for name, text in {"train": train, "val": val, "test": test}.items():
        put(folder / f"emotion/{name}.txt.gz", text)


@pytest.mark.skipif("ALLORA_LAB_DATA" not in os.environ, reason="ALLORA_LAB_DATA is not set")
@pytest.mark.parametrize("key", COUNTS)
def test_the_real_sets_have_the_counted_texts_and_share_none_between_splits(key: str):
    data = load_text(key)
    assert (len(data.train), len(data.dev), len(data.test)) == COUNTS[key]
    every = data.train.texts + data.dev.texts + data.test.texts
    assert len(set(every)) == len(every)
    for split in (data.train, data.dev, data.test):
        assert set(split.labels) == set(range(len(data.label_names)))


def test_movie_lines_take_their_label_from_their_file(folder: Path):
    put(folder / "rotten_tomatoes/rt-polarity.neg.gz", "dull . \nso slow\n")
    put(folder / "rotten_tomatoes/rt-polarity.pos.gz", "café … wins\x85again\n")
    data = load_text("rotten_tomatoes")
    assert dict(zip(data.train.texts, data.train.labels, strict=True)) == {
        "dull .": 0,
        "so slow": 0,
        "café … wins\x85again": 1,
    }
    assert data.label_names == ("negative", "positive")
    assert data.revision == digest_of(local_files("rotten_tomatoes"))


def test_emotion_keeps_its_own_splits_and_semicolons_in_its_texts(folder: Path):
    put_emotion(folder, "i feel; fine;surprise\ni am low;sadness\n\n")
    data = load_text("emotion")
    assert set(zip(data.train.texts, data.train.labels, strict=True)) == {
        ("i feel; fine", 5),
        ("i am low", 0),
    }
    assert (data.dev.texts, data.dev.labels) == (("v",), (2,))
    assert (data.test.texts, data.test.labels) == (("t",), (1,))


def test_stars_become_classes_and_line_breaks_inside_a_review_stay(folder: Path):
    put(folder / "yelp_stars/dev.csv.gz", YELP_HEAD + '"good,\nyes",b,Review Stars: 5.0\n')
    put(folder / "yelp_stars/test.csv.gz", YELP_HEAD + "bad,b,Review Stars: 1.0\n")
    train = load_text("yelp").train
    assert set(zip(train.texts, train.labels, strict=True)) == {("good,\nyes", 4), ("bad", 0)}


def test_a_folder_that_is_not_there_is_said_so(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ALLORA_LAB_DATA", str(folder / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere, which is not a folder: correct it"):
        load_text("emotion")


def test_a_set_there_only_in_part_names_the_missing_file(folder: Path):
    put_emotion(folder, "a;joy\n")
    (folder / "emotion/val.txt.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks .*val\.txt\.gz"):
        load_text("emotion")


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b"plain text", lambda b: b[:30]])
def test_a_damaged_file_is_refused_in_one_sentence(damage, folder: Path):
    put_emotion(folder, "a text that is long enough to be cut;joy\n" * 50)
    path = folder / "emotion/train.txt.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"a file of emotion in .* is damaged") as caught:
        load_text("emotion")
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_utf8_are_refused(folder: Path):
    put_emotion(folder, "a;joy\n")
    (folder / "emotion/val.txt.gz").write_bytes(gzip.compress(b"caf\xe9;joy\n"))
    with pytest.raises(ValueError, match="is damaged"):
        load_text("emotion")


def test_a_line_without_a_known_label_is_named(folder: Path):
    put_emotion(folder, "fine;joy\nbad line;glee\n")
    with pytest.raises(ValueError, match=r"line 2 of .*train\.txt\.gz ends in 'glee'"):
        load_text("emotion")
    put(folder / "yelp_stars/dev.csv.gz", YELP_HEAD + "a,b,Review Stars: 6.0\n")
    put(folder / "yelp_stars/test.csv.gz", YELP_HEAD)
    with pytest.raises(ValueError, match=r"row 1 of .* got 'Review Stars: 6\.0'"):
        load_text("yelp")
