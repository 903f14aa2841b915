"""PEFT's two files of an adapter, read and checked without PEFT: configuration and tensors.

Only safetensors are read: `adapter_model.bin` is a pickle, which runs code of whoever wrote it.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from allora_lab.adapters.targets import matcher, pattern_values

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
    by their name in the model.  `ranks` and `scalings` hold r and s of each layer, as the configuration
    says: s is α / r, or α / √r for rsLoRA.
    """

    config: dict[str, Any]
    layers: dict[str, dict[str, Tensor]]
    others: dict[str, Tensor]
    ranks: dict[str, float]
    scalings: dict[str, float]


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


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file, or raise ValueError with one sentence."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:  # no JSON, no text, nested too deep
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise ValueError(f"{path} is not JSON ({reason}): save the adapter again") from None
    if isinstance(values, dict):
        return values
    raise ValueError(f"{path} must hold a JSON object, got {values!r:.60}: save the adapter again")


def _is_number(value: object, least: float, kind: type = float) -> bool:
    """Return whether a value of JSON is a finite number, or whole number, of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | kind):
        return False
    return least <= value < math.inf and value <= 2**53


def _is_rank(value: object) -> bool:
    return _is_number(value, 1, int)


def _is_alpha(value: object) -> bool:
    return _is_number(value, 0) and value != 0


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)


def _of_layers(is_right: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda v: isinstance(v, dict) and all(map(is_right, v.values()))


# What a field must be and how that is said; null is allowed where the third entry is True.
FIELDS: dict[str, tuple[Callable[[Any], bool], str, bool]] = {
    "r": (_is_rank, "a whole number from 1 up", False),
    "lora_alpha": (_is_alpha, "a finite number above 0", False),
    "rank_pattern": (_of_layers(_is_rank), "an object of whole numbers from 1 up", True),
    "alpha_pattern": (_of_layers(_is_alpha), "an object of finite numbers above 0", True),
    "lora_dropout": (lambda v: _is_number(v, 0) and v < 1, "a number from 0 to below 1", True),
    "target_modules": (
        lambda v: (isinstance(v, str) and v != "") or _is_names(v),
        "a list of names or an expression",
        True,
    ),
    "modules_to_save": (_is_names, "a list of names", True),
    **{
        name: (lambda v: isinstance(v, str) or _is_names(v), "a name or a list of names", True)
        for name in ("exclude_modules", "layers_pattern")
    },
    "layers_to_transform": (
        lambda v: all(_is_number(n, 0, int) for n in (v if isinstance(v, list) else [v])),
        "a whole number or a list of them",
        True,
    ),
    "bias": (lambda v: v in ("none", "all", "lora_only"), 'one of "none", "all", "lora_only"', False),
    "init_lora_weights": (lambda v: isinstance(v, bool | str), "true, false or a name", True),
    **{
        name: (lambda v: isinstance(v, bool), "true or false", True)
        for name in ("use_dora", "use_rslora", "fan_in_fan_out", "inference_mode", "lora_bias")
    },
    **{
        name: (lambda v: isinstance(v, str), "text", True)
        for name in ("base_model_name_or_path", "task_type", "revision")
    },
}  # fmt: skip


def read_config(folder: Path | str) -> dict[str, Any]:
    """Return what `adapter_config.json` says.

    Raises ValueError when it is no JSON object, of another kind of adapter than LoRA, or when a field
    that is read here has another type or range than LoRA's.
    """
    path = Path(folder) / CONFIG
    config = read_json_object(path)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ValueError(
            f"{path} is of an adapter of the type {kind!s:.40}, and only LORA (with rsLoRA, DoRA and "
            "ALLoRA) is read here: merge it with PEFT and use the merged model"
        )
    for name, (is_right, words, may_be_null) in FIELDS.items():
        value = config.get(name)
        if name in config and not (value is None and may_be_null) and not is_right(value):
            raise ValueError(
                f"{name} in {path} must be {words}, got {value!r:.60}: correct it or save the adapter "
                "again"
            )
    return config


def _require_sound(path: Path, key: str, tensor: Tensor, part: str | None) -> None:
    """Raise ValueError unless a tensor has floating, finite numbers, and A, B and m their dimensions."""
    dimensions = {None: tensor.dim(), "lora_magnitude_vector": 1}.get(part, 2)
    problem = None
    if not tensor.is_floating_point():
        problem = (
            f"is of {str(tensor.dtype).removeprefix('torch.')}, expected floating-point numbers"
        )
    elif tensor.dim() != dimensions:
        problem = f"has {tensor.dim()} dimensions, expected {dimensions}"
    elif not torch.isfinite(tensor.float()).all():
        problem = "has numbers that are not finite"
    if problem:
        raise ValueError(f"{key} in {path} {problem}: save the adapter again")


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
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}): save it again") from None
    layers: dict[str, dict[str, Tensor]] = {}
    others = {}
    for key, tensor in tensors.items():
        name = key.removeprefix(PREFIX)
        end = next((end for end in PARTS if name.endswith(end)), None)
        _require_sound(path, key, tensor, PARTS.get(end) if end else None)
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
    if isinstance(config.get("target_modules"), str):
        matcher(config["target_modules"])("")  # raises unless it is an expression
    ranks, alphas = (
        pattern_values(pattern, config.get(pattern), layers, config.get(field, 8))
        for pattern, field in (("rank_pattern", "r"), ("alpha_pattern", "lora_alpha"))
    )
    scalings = {
        name: alphas[name] / (math.sqrt(r) if config.get("use_rslora") else r)
        for name, r in ranks.items()
    }
    return PeftFiles(config=config, layers=layers, others=others, ranks=ranks, scalings=scalings)
