"""PEFT's two files of an adapter, read and checked without PEFT: configuration and tensors.

Only safetensors are read: `adapter_model.bin` is a pickle, which runs code of whoever wrote it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."  # what PEFT wraps around a model's own names
PARTS = {  # the end of a key, and what stands there
    ".lora_A.weight": "lora_A",
    ".lora_B.weight": "lora_B",
    ".lora_magnitude_vector": "lora_magnitude_vector",
}


@dataclass(frozen=True, kw_only=True)
class PeftFiles:
    """An adapter as it stands on disk.

    `layers` holds, by the layer's name in the model, A (r, d_in) as `lora_A`, B (d_out, r) as
    `lora_B` and DoRA's m (d_out,) as `lora_magnitude_vector`; `others` the tensors of other modules
    by their name in the model.
    """

    config: dict[str, Any]
    layers: dict[str, dict[str, Tensor]]
    others: dict[str, Tensor]


def require_adapter_files(folder: Path | str) -> None:
    """Raise FileNotFoundError or ValueError unless `folder` holds an adapter in safetensors."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: name the one that save_pretrained wrote")
    if not (folder / WEIGHTS).exists() and (folder / PICKLE).exists():
        raise ValueError(
            f"{folder} holds its weights only as {PICKLE}, a pickle, which can run code: load it "
            "with PEFT where you trust it, and save it anew with safe_serialization=True"
        )
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"{folder} has no {name}: name the folder of a PEFT adapter, which holds {CONFIG} "
                f"and {WEIGHTS}"
            )


def read_config(folder: Path | str) -> dict[str, Any]:
    """Return what `adapter_config.json` says.

    Raises ValueError when it is no JSON object, or of another kind of adapter than LoRA.
    """
    path = Path(folder) / CONFIG
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): save the adapter again") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise ValueError(
            f"{path} is of an adapter of the type {kind}, and only LORA (with rsLoRA, DoRA and "
            "ALLoRA) is read here: merge it with PEFT and use the merged model"
        )
    return config


def read_adapter(folder: Path | str) -> PeftFiles:
    """Return an adapter's configuration and tensors, the tensors sorted by layer.

    Raises
    ------
    FileNotFoundError
        If the folder or one of the two files is missing.
    ValueError
        If the weights are a pickle, damaged, of another adapter than LoRA, or not in pairs.
    """
    require_adapter_files(folder)
    config = read_config(folder)
    path = Path(folder) / WEIGHTS
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or cut short ({error}): save it again") from None
    layers: dict[str, dict[str, Tensor]] = {}
    others = {}
    for key, tensor in tensors.items():
        name = key.removeprefix(PREFIX)
        end = next((end for end in PARTS if name.endswith(end)), None)
        if end is None:
            others[name] = tensor
        else:
            layers.setdefault(name.removesuffix(end), {})[PARTS[end]] = tensor
    wanted = {"lora_A", "lora_B"} | ({"lora_magnitude_vector"} if config.get("use_dora") else set())
    for name, parts in layers.items():
        if parts.keys() != wanted:
            raise ValueError(
                f"{path} has {', '.join(sorted(parts))} of the layer {name}, expected "
                f"{', '.join(sorted(wanted))}: save the adapter again"
            )
    if not layers:
        raise ValueError(f"{path} holds no lora_A and lora_B: save the adapter again")
    return PeftFiles(config=config, layers=layers, others=others)


def pattern_value(pattern: Mapping[str, float] | None, name: str, otherwise: float) -> float:
    """Return the value of the first key of a rank_pattern or alpha_pattern that matches a layer.

    As in PEFT, a key is a regular expression for the whole name or for its end after a dot.
    """
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", name):
            return value
    return otherwise
