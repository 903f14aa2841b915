r"""Adapters in PEFT's files, read into this package's layers: the way back of `export`.

PEFT computes W x + b + s · B A x with s = α / r, or α / √r for rsLoRA, and DoRA's m besides.  The
tensors are taken over bit for bit; rsLoRA becomes LoRA with its factor; a file `allora.json` beside
the adapter makes it ALLoRA with its η².  The tensors say which layers are adapted and with what
rank, and the configuration must agree with them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from allora_lab.adapters.allora import ALLoRALinear
from allora_lab.adapters.base import AdaptedLinear, linear_weight
from allora_lab.adapters.dora import DoRALinear
from allora_lab.adapters.inject import adapted_layers, replace_layers
from allora_lab.adapters.lora import LoRALinear
from allora_lab.adapters.precision import keep_trained_in_float32
from allora_lab.adapters.targets import is_in_head
from allora_lab.adapters.update_layer import ALLoRAUpdateLinear
from allora_lab.peft_files import PeftFiles, read_adapter
from allora_lab.sidecar import Sidecar, read_sidecar

VARIANTS = (  # settings that make another method of it, or train more than adapters and head
    *("lora_bias", "layer_replication", "target_parameters", "megatron_config"),
    *("alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "kasa_config"),
    *("velora_config", "monteclora_config", "trainable_token_indices"),
)
PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")  # these leave W as it was


def _require_readable(config: dict[str, Any]) -> None:
    """Raise ValueError, naming the setting, when PEFT would compute something we have no layer for."""
    for name in VARIANTS:
        if config.get(name):
            raise ValueError(
                f"this adapter was made with {name}, which is not read here: LoRA, rsLoRA, DoRA and "
                "ALLoRA are; merge it with PEFT and use the merged model"
            )
    start = config.get("init_lora_weights")
    if start not in PLAIN_STARTS:
        raise ValueError(
            f"this adapter was made with init_lora_weights={start!r}, which changes the pretrained "
            "weights too: convert it with PEFT's path_initial_model_for_weight_conversion first"
        )
    if config.get("bias", "none") != "none":
        raise ValueError(
            f"this adapter trained biases (bias={config['bias']!r}), which are not read here: merge "
            "it with PEFT and use the merged model"
        )


def _require_fit(model: nn.Module, files: PeftFiles) -> dict[str, nn.Module]:
    """Return the model's layer of every adapter, or raise ValueError: another base model, most likely."""
    made_for = files.config.get("base_model_name_or_path") or "another base model"
    modules, targets = dict(model.named_modules()), {}
    for name, parts in files.layers.items():
        layer = modules.get(name)
        is_linear = isinstance(layer, nn.Linear | Conv1D)
        if not is_linear:
            raise ValueError(
                f"the adapter is for {name}, which is no linear layer of this model: it was made "
                f"for {made_for}"
            )
        (d_out, d_in), (r, a_in) = linear_weight(layer).shape, parts["lora_A"].shape
        if a_in != d_in or parts["lora_B"].shape != (d_out, r):
            raise ValueError(
                f"the adapter of {name} is for a {parts['lora_B'].shape[0]} x {a_in} layer, and "
                f"this model's is {d_out} x {d_in}: it was made for {made_for}"
            )
        if files.ranks[name] != r:
            raise ValueError(
                f"the adapter of {name} has rank {r}, and adapter_config.json says "
                f"{files.ranks[name]}: use the two files of one adapter"
            )
        m = parts.get("lora_magnitude_vector")
        if m is not None and len(m) != d_out:
            raise ValueError(
                f"the magnitudes of {name} are {len(m)}, and this model's layer has {d_out} rows: it "
                f"was made for {made_for}"
            )
        targets[name] = layer
    state = model.state_dict()
    for name, tensor in files.others.items():
        if not is_in_head(name):
            raise ValueError(
                f"the adapter's file holds {name}, which is neither an adapter nor part of a "
                "classification head: merge it with PEFT and use the merged model"
            )
        if name not in state or state[name].shape != tensor.shape:
            found = tuple(state[name].shape) if name in state else "missing"
            raise ValueError(
                f"the adapter's head {name} is {tuple(tensor.shape)}, and this model's is {found}: "
                "load the model with as many classes"
            )
    return targets


def _builder(
    files: PeftFiles, sidecar: Sidecar | None, names: dict[nn.Module, str]
) -> Callable[[nn.Module], AdaptedLinear]:
    """Return what makes our layer of a pretrained one, with A, B and m still at their start."""
    config = files.config
    dropout = config.get("lora_dropout") or 0.0

    def build(layer: nn.Module) -> AdaptedLinear:
        name = names[layer]
        common = {"r": int(files.ranks[name]), "lora_dropout": dropout}
        if config.get("use_dora"):
            return DoRALinear(layer, scaling=files.scalings[name], **common)
        if sidecar:
            kind = {"allora": ALLoRALinear, "allora-update": ALLoRAUpdateLinear}[sidecar.method]
            return kind(layer, eta_squared=sidecar.eta_squared, **common)
        return LoRALinear(layer, scaling=files.scalings[name], **common)

    return build


@torch.no_grad()
def _copy_tensors(model: nn.Module, files: PeftFiles) -> None:
    """Write an adapter's tensors, and its head, into a model that has its layers."""
    for name, parts in files.layers.items():
        for key, tensor in parts.items():
            model.get_submodule(name).get_parameter(key).copy_(tensor)
    model.load_state_dict(files.others, strict=False)


def load_peft(model: nn.Module, folder: Path | str) -> nn.Module:
    """Put the adapter that PEFT saved in `folder` into a pretrained model, in place, and return it.

    The layers are those of `inject_adapters`: LoRA, DoRA, or ALLoRA where `allora.json` says so
    ("allora-update" gives LoRA layers, whose optimizer is to be wrapped).  Ranks may differ from layer
    to layer.  A classification head in the file replaces the model's.  Adapters and head are float32,
    also on a model whose weights are bfloat16 or float16.

    Parameters
    ----------
    model
        The pretrained model that the adapter was trained on, without adapters.
    folder
        With `adapter_config.json` and `adapter_model.safetensors`, as `save_pretrained` and
        `export_peft` write them.

    Raises
    ------
    FileNotFoundError
        If the folder or a file is missing.
    ValueError
        If the weights are a pickle, damaged, of another base model, or of a variant of LoRA that is
        not read here; if `allora.json` is corrupt; or if the model has adapters.  The model is left
        as it was.
    """
    if adapted_layers(model):
        raise ValueError(
            "this model already has adapters: merge them with merge_adapters, or load it afresh"
        )
    files = read_adapter(folder)
    _require_readable(files.config)
    sidecar = read_sidecar(folder)
    targets = _require_fit(model, files)
    if sidecar:
        for name, s in files.scalings.items():
            if files.config.get("use_dora") or s != 1:
                raise ValueError(
                    f"allora.json says ALLoRA, whose scaling is 1, and adapter_config.json says "
                    f"{'DoRA' if files.config.get('use_dora') else f'{s:g} for {name}'}: remove "
                    "allora.json if it is left over from another adapter"
                )
    names = {layer: name for name, layer in targets.items()}
    replace_layers(model, targets, _builder(files, sidecar, names))
    keep_trained_in_float32(model)  # first: bfloat16 would round what is copied
    _copy_tensors(model, files)
    return model
