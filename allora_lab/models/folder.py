"""A folder that holds one pretrained model: whether it is whole, and what identifies its weights.

Only safetensors weights count.  Pickled ones are refused, since reading them can run code.
"""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from allora_lab.files import sha256_of
from allora_lab.models.config_file import read_config_file

INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json")


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files a folder's model is made of, whether or not they exist.

    Raises ValueError when the list of a model in several files cannot be read, or names a file
    outside the folder.
    """
    index = folder / INDEX
    if (folder / "model.safetensors").is_file() or not index.is_file():
        return [folder / "model.safetensors"]
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{index} is damaged or cut short: fetch the model again") from error
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard or not shard:
            raise ValueError(
                f"{index} must name files of its own folder, such as "
                f"model-00001-of-00002.safetensors, got {shard!r:.60}: fetch the model again"
            )
    return [folder / shard for shard in sorted(shards)]


def missing_file(folder: Path) -> str | None:
    """Return the name of the first file that the model in a folder needs and lacks, else None."""
    for path in (folder / "config.json", *weight_files(folder)):
        if not path.is_file():
            return path.name
    has_tokenizer = any((folder / name).is_file() for name in TOKENIZER_FILES)
    return None if has_tokenizer else "tokenizer.json"


def require_whole(folder: Path) -> None:
    """Raise unless a folder holds configuration, safetensors weights and a tokenizer.

    Raises
    ------
    FileNotFoundError
        When a file is missing.
    ValueError
        When a JSON file or the weights are damaged, or config.json cannot be built.
    """
    missing = missing_file(folder)
    if missing is not None:
        raise FileNotFoundError(
            f"the model folder {folder} has no {missing}: it needs config.json, model.safetensors "
            "(pickled weights are refused) and a tokenizer, as save_pretrained writes them"
        )
    for name in TOKENIZER_FILES:
        if name.endswith(".json") and (folder / name).is_file():
            _require_json_object(folder / name)
    read_config_file(folder, tensors=len(stored_tensors(folder)))


def _require_json_object(path: Path) -> None:
    try:
        dict.keys(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged, cut short or no JSON object: fetch the model again"
        ) from error


def stored_tensors(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the type, such as "F32", and the shape of every tensor in a folder's weights.

    Raises ValueError when a file of weights is damaged or cut short.
    """
    stored = {}
    try:
        for path in weight_files(folder):
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    tensor = file.get_slice(name)
                    stored[name] = (tensor.get_dtype(), tuple(tensor.get_shape()))
    except SafetensorError as error:
        raise ValueError(
            f"the weights in {folder} are damaged or cut short ({error}): fetch them again"
        ) from error
    if not stored:
        raise ValueError(f"the weights in {folder} hold no tensor: fetch them again")
    return stored


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 of the weights; of the files' digests, in order, if there are several."""
    digests = [sha256_of(path) for path in weight_files(folder)]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )
