"""MNIST and CIFAR-10 from the Hugging Face hub, as the Parquet files it keeps of each.

Columns are an image (PNG or JPEG bytes) and its label; rows become label, then pixels, training
images first, as in `cifar.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from allora_lab.data.cifar import decode_image
from allora_lab.data.hub import PARQUET
from allora_lab.models.hub import cached_snapshot, fetch_snapshot

SPLITS = ("train", "test")


@dataclass(frozen=True)
class HubImages:
    """Where an image set lies on the hub, its columns' names, its images' size and mode."""

    repo: str
    config: str
    image: str
    label: str
    size: tuple[int, int]
    mode: str  # of pillow: "L" is grey, "RGB" is colour


HUB_IMAGES = {
    "mnist": HubImages("ylecun/mnist", "mnist", "image", "label", (28, 28), "L"),
    "cifar10": HubImages("uoft-cs/cifar10", "plain_text", "img", "label", (32, 32), "RGB"),
}


def cached_image_folder(key: str) -> Path | None:
    """Return the cached folder of a hub image set if it has both splits, else None."""
    where = HUB_IMAGES[key]
    folders = [
        cached_snapshot(
            where.repo, PARQUET, filename=f"{where.config}/{split}/0000.parquet", kind="dataset"
        )
        for split in SPLITS
    ]
    return None if None in folders else folders[0]


def image_files(key: str, instead: str) -> list[Path]:
    """Return the Parquet files of an image set, training files first, fetched if not cached.

    `instead` says what can be done without the hub.  Raises ConnectionError when the set is not
    cached and the hub cannot be reached.
    """
    where = HUB_IMAGES[key]
    folder = cached_image_folder(key) or fetch_snapshot(
        where.repo,
        PARQUET,
        patterns=(f"{where.config}/*.parquet",),
        kind="dataset",
        instead=instead,
    )
    return [p for s in SPLITS for p in sorted((folder / where.config / s).glob("*.parquet"))]


def read_image_files(key: str, paths: list[Path]) -> UInt8[np.ndarray, "n row"]:
    """Return one row an image: label, then pixels.

    Raises ValueError for a damaged file or image, and ModuleNotFoundError when the extra that
    reads Parquet files is not installed.
    """
    where = HUB_IMAGES[key]
    rows = [
        bytes([label]) + decode_image(image["bytes"], where.size, where.mode)
        for path in paths
        for image, label in _pairs(path, where)
    ]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)


def _pairs(path: Path, where: HubImages) -> Iterator[tuple[dict[str, bytes], int]]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "reading a hub data set needs pyarrow: pip install 'allora-lab[hub]'"
        ) from error
    try:
        table = parquet.read_table(path, columns=[where.image, where.label])
    except ArrowInvalid as error:
        raise ValueError(
            f"{path} is damaged or cut short: delete it and run again to fetch it anew"
        ) from error
    columns = table.to_pydict()
    yield from zip(columns[where.image], columns[where.label], strict=True)
