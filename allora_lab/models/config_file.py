"""A model's config.json, checked before anything is built from it.

transformers builds what the file says: a million million layers take for ever, and a negative size
fails deep inside torch.  So the values that decide a model's size are checked here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REMEDY = "correct it, or fetch the model again"
NO_MODEL = "describes no model that transformers can build"
MOST_LAYERS = 10_000  # where there are no weights whose tensors bound their number
LARGEST_SIZE = 2**31
LAYERS = (
    *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers"),
    *("decoder_layers", "num_encoder_layers", "num_decoder_layers", "num_hidden_groups"),
)
COUNTS = (  # may be 0
    *("num_labels", "num_experts", "num_local_experts", "n_routed_experts"),
    "chunk_size_feed_forward",
)
SIZES = (
    *("hidden_size", "intermediate_size", "vocab_size", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "max_position_embeddings", "embedding_size"),
    *("n_embd", "n_head", "n_heads", "n_inner", "n_positions", "n_ctx", "dim", "hidden_dim"),
    *("d_model", "d_ff", "d_kv", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim"),
    *("encoder_attention_heads", "decoder_attention_heads"),
)


def read_config_file(folder: Path, tensors: int | None = None) -> dict[str, Any]:
    """Return a folder's config.json as a dictionary whose sizes can be built.

    Parameters
    ----------
    folder
        The model's folder.
    tensors
        How many tensors the weights hold, and so the largest number of layers; None is 10,000.

    Raises
    ------
    ValueError
        When the file is no JSON object, or a value that decides the model's size or its code has
        the wrong type or is out of range.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or cut short: fetch the model again") from error
    if not isinstance(config, dict):
        raise _wrong(path, "the value", config, "a JSON object of settings")
    if not isinstance(config.get("model_type", ""), str):
        raise _wrong(path, "model_type", config["model_type"], "the name of a kind of model")
    if not _is_auto_map(config.get("auto_map")):
        raise _wrong(path, "auto_map", config["auto_map"], "an object of names of classes")
    most_layers = MOST_LAYERS if tensors is None else tensors
    for key, value in _settings(config):
        if key in LAYERS:
            _require_whole(path, key, value, 1, most_layers)
        elif key in SIZES or key in COUNTS:
            _require_whole(path, key, value, int(key in SIZES), LARGEST_SIZE)
    return config


def _is_auto_map(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict):
        return False
    names = (n for row in value.values() for n in (row if isinstance(row, list) else [row]))
    return all(name is None or isinstance(name, str) for name in names)


def _settings(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every setting, those of nested configurations and of lists one by one."""
    rest = [*config.items()]
    while rest:
        key, value = rest.pop()
        if isinstance(value, dict):
            rest += value.items()
        elif isinstance(value, list):
            rest += [(key, item) for item in value]
        else:
            yield key, value


def _require_whole(path: Path, key: str, value: Any, least: int, most: int) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _wrong(path, key, value, f"a whole number from {least} to {most}")


def _wrong(path: Path, key: str, value: Any, words: str) -> ValueError:
    return ValueError(f"{key} in {path} must be {words}, got {value!r:.60}: {REMEDY}")
