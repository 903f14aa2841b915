"""A hub data set loads from the Hugging Face cache, and without it fails soon with the ways out."""

import time
from pathlib import Path

import pyarrow
import pytest
from huggingface_hub import constants
from pyarrow import parquet

from allora_lab.data.text import load_text
from allora_lab.models import hub

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("ALLORA_LAB_DATA", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def put(cache: Path, repo: str, splits: dict[str, list[tuple[str, int]]]) -> Path:
    """Lay Parquet files into a Hugging Face cache as the hub's own client does."""
    root = cache / f"datasets--{repo.replace('/', '--')}"
    (root / "refs/refs/convert").mkdir(parents=True)
    (root / "refs/refs/convert/parquet").write_text(COMMIT)
    for name, pairs in splits.items():
        path = root / "snapshots" / COMMIT / name / "0000.parquet"
        path.parent.mkdir(parents=True)
        texts, labels = zip(*pairs, strict=True)
        parquet.write_table(pyarrow.table({"text": texts, "label": labels}), path)
    return root / "snapshots" / COMMIT


def test_a_cached_set_keeps_its_own_splits_and_is_named_by_its_commit(cache: Path):
    splits = {
        "split/train": [("a", 0), ("b", 5)],
        "split/validation": [("c", 1)],
        "split/test": [("d", 2), ("a", 4)],
    }
    put(cache, "dair-ai/emotion", splits)
    data = load_text("emotion")
    assert (data.train.texts, data.train.labels) == (("b",), (5,))
    assert (data.dev.texts, data.dev.labels) == (("c",), (1,))
    assert sorted(zip(data.test.texts, data.test.labels, strict=True)) == [("a", 4), ("d", 2)]
    assert (data.revision, data.source) == (COMMIT, "the Hugging Face hub: dair-ai/emotion")


def test_a_set_without_a_dev_split_takes_it_from_train_over_all_files(cache: Path):
    splits = {
        "yelp_review_full/train": [(f"r{i}", i % 5) for i in range(40)],
        "yelp_review_full/test": [("z", 3)],
    }
    folder = put(cache, "Yelp/yelp_review_full", splits)
    second = pyarrow.table({"text": [f"s{i}" for i in range(10)], "label": [0] * 10})
    parquet.write_table(second, folder / "yelp_review_full/train/0001.parquet")
    data = load_text("yelp")
    assert (len(data.train), len(data.dev), len(data.test)) == (45, 5, 1)


def test_a_damaged_parquet_file_is_named(cache: Path):
    pairs = [("a", 0), ("b", 1)]
    splits = {f"default/{name}": pairs for name in ("train", "validation", "test")}
    folder = put(cache, "cornell-movie-review-data/rotten_tomatoes", splits)
    path = folder / "default/train/0000.parquet"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"train.0000\.parquet is damaged or cut short") as caught:
        load_text("rotten_tomatoes")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["rotten_tomatoes", "emotion", "yelp"])
def test_offline_and_not_cached_names_the_ways_out_at_once(key: str):
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set") as caught:
        load_text(key)
    for way in ("ALLORA_LAB_DATA", "*_rated", "HF_ENDPOINT", "cache folder"):
        assert way in str(caught.value)


def test_an_unreachable_hub_is_refused_within_ten_seconds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    started = time.monotonic()
    with pytest.raises(ConnectionError, match="the dataset dair-ai/emotion is not in"):
        load_text("emotion")
    assert time.monotonic() - started < 10


def test_a_set_cached_in_part_is_not_taken_for_a_whole_one(cache: Path):
    put(cache, "dair-ai/emotion", {"split/train": [("a", 0)], "split/test": [("b", 0)]})
    with pytest.raises(ConnectionError):
        load_text("emotion")
    assert hub.cached_snapshot("dair-ai/emotion", None, kind="dataset") is None
