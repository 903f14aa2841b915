r"""Adapters written as PEFT's files, so that plain PEFT loads them without this package.

PEFT computes W x + b + (α / r) · B A x.  So a layer's gates are folded into A, A ← diag(g) A; ranks
whose gate is zero are left out; α is s · r of each layer; and layers that have other ranks than most
stand in `rank_pattern` and `alpha_pattern`, each under a key that matches its own full name and
nothing else.  A layer without ranks is the pretrained one: no file mentions it.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from allora_lab.adapters.allora import ALLoRALinear
from allora_lab.adapters.base import AdaptedLinear
from allora_lab.adapters.dora import DoRALinear
from allora_lab.adapters.gated import GatedLinear
from allora_lab.adapters.inject import adapted_layers, vocabulary_size
from allora_lab.adapters.targets import is_in_head, is_target
from allora_lab.adapters.update_layer import ALLoRAUpdateLinear
from allora_lab.files import written_whole
from allora_lab.peft_files import CONFIG, PREFIX, WEIGHTS
from allora_lab.sidecar import Sidecar, remove_sidecar, write_sidecar

TASKS = {  # from the end of a model class's name to PEFT's task
    "ForSequenceClassification": "SEQ_CLS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
}

SIDECAR_OF = {ALLoRALinear: "allora", ALLoRAUpdateLinear: "allora-update"}

Factors = dict[str, tuple[Tensor, Tensor]]  # by layer: A (r, d_in) and B (d_out, r), r > 0


def require_exportable(model: nn.Module) -> dict[str, AdaptedLinear]:
    """Return the adapted layers of a model by name.

    Raises ValueError when there is none, when one computes what PEFT has no layer for, or when the
    token embeddings were resized after the adapters were put in.
    """
    layers = adapted_layers(model)
    if not layers:
        raise ValueError(
            "this model has no adapters to export: put them in with inject_adapters first"
        )
    before, now = getattr(model, "vocabulary_when_adapted", None), vocabulary_size(model)
    if before is not None and before != now:
        raise ValueError(
            f"the token embeddings have {now} rows and had {before} when the adapters were put in; the "
            "rows do not train, and no adapter's file holds them: resize first, save that model with "
            "save_pretrained, and call inject_adapters then"
        )
    magnitudes = sum(isinstance(layer, DoRALinear) for layer in layers.values())
    all_have_magnitudes = magnitudes == len(layers)
    other = [n for n, m in layers.items() if not (m.is_plain_lora or all_have_magnitudes)]
    if other:
        raise ValueError(
            f"{other[0]} is of the kind {type(layers[other[0]]).__name__}, which a PEFT adapter "
            "cannot express: export a model adapted with another method, such as lora or allora"
        )
    return layers


@torch.no_grad()
def plain_factors(layer: AdaptedLinear) -> tuple[Tensor, Tensor]:
    """Return A (r, d_in) and B (d_out, r) with ΔW = s · B A: gates folded, ranks of gate 0 left out."""
    if not isinstance(layer, GatedLinear):
        return layer.lora_A, layer.lora_B
    kept = layer.gates().nonzero().flatten()
    return layer.gated_A()[kept], layer.lora_B[:, kept]


def _head_modules(model: nn.Module) -> list[str]:
    """Return the new head's modules, each the outermost of its name."""
    return [
        name
        for name, _ in model.named_modules()
        if is_in_head(name) and not is_in_head(name.rpartition(".")[0])
    ]


def _tensors(model: nn.Module, layers: dict[str, AdaptedLinear], factors: Factors) -> dict:
    """Return every tensor of the file under PEFT's names, on the CPU.

    Raises ValueError when something else than adapters and head was trained, for it would be lost.
    """
    found: dict[str, Tensor] = {}
    for name, (A, B) in factors.items():
        found |= {f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B}
        if isinstance(layers[name], DoRALinear):
            found[f"{name}.lora_magnitude_vector"] = layers[name].lora_magnitude_vector
    for name in _head_modules(model):
        state = model.get_submodule(name).state_dict()
        found |= {f"{name}.{key}": value for key, value in state.items()}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name not in found and name.rpartition(".")[0] not in layers:
            raise ValueError(
                f"{name} trains but is neither an adapter nor part of a classification head, so it "
                "would be lost: freeze it, or save the whole model"
            )
    return {PREFIX + key: value.detach().cpu().clone().contiguous() for key, value in found.items()}


def _names_or_expression(model: nn.Module, layers: dict, names: list[str]) -> list[str] | str:
    """Return target_modules for exactly these layers: their names, unless PEFT would match more.

    PEFT takes a listed name for the end of other names too; an expression must match whole.
    """
    inside = tuple(f"{name}." for name in layers)
    others = {n for n, _ in model.named_modules() if not n.startswith(inside)} - set(names)
    if any(is_target(other, names) for other in others):
        return "|".join(map(re.escape, names))
    return names


def _config(model: nn.Module, layers: dict[str, AdaptedLinear], factors: Factors) -> dict[str, Any]:
    """Return what `adapter_config.json` says: r and α of most layers, and the patterns of the rest."""
    r = {name: len(A) for name, (A, _) in factors.items()}
    alpha = {name: layers[name].scaling * r[name] for name in factors}
    (most_r, most_alpha), _ = Counter(zip(r.values(), alpha.values(), strict=True)).most_common(1)[
        0
    ]
    keys = {name: f"^{re.escape(name)}" for name in factors}  # PEFT ends it with $
    some = layers[next(iter(factors))]
    kind = type(model).__name__
    return {
        "peft_type": "LORA",
        "task_type": next((task for end, task in TASKS.items() if kind.endswith(end)), None),
        "r": most_r,
        "lora_alpha": most_alpha,
        "rank_pattern": {keys[n]: k for n, k in r.items() if k != most_r},
        "alpha_pattern": {keys[n]: a for n, a in alpha.items() if a != most_alpha},
        "target_modules": _names_or_expression(model, layers, list(factors)),
        "modules_to_save": _head_modules(model) or None,
        "lora_dropout": getattr(some.dropout, "p", 0.0),
        "use_dora": isinstance(some, DoRALinear),
        "use_rslora": False,  # its scaling is in lora_alpha
        "fan_in_fan_out": isinstance(some.base_layer, Conv1D),
        "bias": "none",
        "inference_mode": True,
    }


def export_peft(
    model: nn.Module, folder: Path | str, *, base_model_name_or_path: str | None = None
) -> None:
    """Write a model's adapters and its new head as `peft.PeftModel.from_pretrained` reads them.

    `adapter_config.json` and `adapter_model.safetensors` are both complete before either takes its
    name in `folder`, which is made when missing.  The model is left as it is.  η² of allora and allora-update is
    written beside them as `allora.json`, for `load_peft` and `allora_lab.peft.load_adapter`.  Not written are
    other methods' own settings, such as the budget: PEFT would train on as plain LoRA.

    Parameters
    ----------
    model
        A model with adapters of any method but asf-lora; GPT-2's Conv1D layers included.
    folder
        Where the two files go; those of an earlier export are replaced.
    base_model_name_or_path
        What PEFT's AutoPeftModel loads the pretrained model from; None takes the model's own name.

    Raises
    ------
    ValueError
        If the model has no adapters, no rank is left in any, one computes what PEFT cannot express,
        other parameters train too, or the token embeddings were resized meanwhile.  Nothing has been
        written then.
    OSError
        If the folder cannot be made or written.
    """
    layers = require_exportable(model)
    factors = {name: plain_factors(layer) for name, layer in layers.items()}
    factors = {name: pair for name, pair in factors.items() if len(pair[0])}
    if not factors:
        raise ValueError(
            "no adapter has a rank left (every gate is zero), so there is nothing to export: the "
            "model is the pretrained one but for its head"
        )
    tensors = _tensors(model, layers, factors)
    base = base_model_name_or_path or getattr(model, "name_or_path", None)
    config = {"base_model_name_or_path": base or None, **_config(model, layers, factors)}
    folder = Path(folder)
    with written_whole(folder / CONFIG) as config_file, written_whole(folder / WEIGHTS) as weights:
        remove_sidecar(folder)
        config_file.write_text(json.dumps(config, indent=2) + "\n")
        weights.write_bytes(save(tensors, {"format": "pt"}))
    first = next(iter(layers.values()))
    method = SIDECAR_OF.get(type(first))
    if method:
        write_sidecar(folder, Sidecar(eta_squared=first.eta_squared, method=method))
