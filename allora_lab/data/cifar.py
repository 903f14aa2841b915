"""CIFAR-10 as a tree of JPEG files in a tar archive: {train,test}/<class>/NNNN.jpg.

The copy is lossy (JPEG, quality about 75): pixels differ a little from the original's.  Each image
becomes a row of 1 + 3,072 bytes, the label before the pixels (32 x 32 x 3, row by row), the
training images before the test images, in the order of their names.
"""

import io
import re
import tarfile
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from allora_lab.data.archive import read_bounded, require_safe_names

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
PIXELS = 32 * 32 * 3
PER_CLASS = {"train": 5000, "test": 1000}
MEMBER = re.compile(rf"(?:\./)?(train|test)/({'|'.join(CLASSES)})/[^/]+\.jpe?g")


def read_cifar_tar(
    path: Path, per_class: dict[str, int] | None = None
) -> UInt8[np.ndarray, "n row"]:
    """Return one row an image: label, then 3,072 pixels; `train` rows first.

    Parameters
    ----------
    path
        The tar archive, gzipped or not.
    per_class
        How many images each class must have in `train` and in `test`; None is CIFAR-10's own.

    Raises
    ------
    ValueError
        For a damaged archive, an unsafe name, an image that is not 32 x 32, or wrong counts.
    """
    rows: list[tuple[str, bytes]] = []
    counts = dict.fromkeys(((s, c) for s in PER_CLASS for c in CLASSES), 0)
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                require_safe_names([member.name], str(path))
                match = MEMBER.fullmatch(member.name)
                if match and member.isreg():
                    pixels = decode_image(
                        read_bounded(archive.extractfile(member), member.name), (32, 32), "RGB"
                    )
                    counts[match.groups()] += 1
                    label = bytes([CLASSES.index(match[2])])
                    rows.append((f"{match[1] == 'test'}/{match[2]}/{member.name}", label + pixels))
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"{path} is damaged or cut short: put the original back") from error
    except ValueError as error:
        raise ValueError(f"{path} is not the archive expected ({error})") from error
    _require_counts(path, counts, per_class or PER_CLASS)
    ordered = b"".join(row for _, row in sorted(rows))
    return np.frombuffer(ordered, np.uint8).reshape(len(rows), 1 + PIXELS)


def decode_image(content: bytes, size: tuple[int, int], mode: str) -> bytes:
    """Return the pixels of a PNG or JPEG, row by row; ValueError if it is not of that size."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            if image.size != size:
                raise ValueError(f"an image is {image.size[0]} x {image.size[1]} pixels")
            return image.convert(mode).tobytes()
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError("an image cannot be decoded") from error


def _require_counts(
    path: Path, counts: dict[tuple[str, str], int], per_class: dict[str, int]
) -> None:
    for (split, name), found in counts.items():
        if found != per_class[split]:
            raise ValueError(
                f"{path} holds {found} images in {split}/{name}, expected {per_class[split]}: "
                "put the original back"
            )
