"""Put adapters into a pretrained model, take them out again, and read their state."""

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from allora_lab.adapters.base import AdaptedLinear, linear_weight

# the new head of a sequence classifier: most models, decoders, BART, DistilBERT
HEADS = ("classifier", "score", "classification_head", "pre_classifier")


def is_target(name: str, target_modules: Sequence[str] | str) -> bool:
    """Return whether PEFT would adapt the module `name`.

    A list matches a module named so, or whose name ends in `.` and one of its entries; a string is
    a regular expression for the whole name, or "all-linear" for every linear layer but the one
    that turns hidden states into words (`find_targets` leaves that one out).
    """
    if target_modules == "all-linear":
        return True
    if isinstance(target_modules, str):
        try:
            return re.fullmatch(target_modules, name) is not None
        except re.error as error:
            raise ValueError(
                f"target_modules {target_modules!r} is not a regular expression ({error}): correct "
                "it, or give a list of names"
            ) from None
    return any(name == target or name.endswith(f".{target}") for target in target_modules)


def is_in_head(name: str) -> bool:
    """Return whether a module or parameter belongs to the new head, also inside a wrapper."""
    return any(part in HEADS for part in name.split("."))


def _output_embeddings(model: nn.Module) -> nn.Module | None:
    return model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None


def adapted_layers(model: nn.Module) -> dict[str, AdaptedLinear]:
    """Return the adapted layers of a model by name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, AdaptedLinear)}


def find_targets(
    model: nn.Module, target_modules: Sequence[str] | str, *, r: int
) -> dict[str, nn.Module]:
    """Return the `nn.Linear` and `Conv1D` layers to adapt, by name; the head is left alone.

    Raises
    ------
    ValueError
        If the model is adapted already, nothing matches, or r is too large for a match.
    """
    if adapted_layers(model):
        raise ValueError(
            "this model already has adapters: merge them with merge_adapters, or load it afresh"
        )
    words_out = _output_embeddings(model) if target_modules == "all-linear" else None
    linear = {
        n: m
        for n, m in model.named_modules()
        if n and isinstance(m, nn.Linear | Conv1D) and not is_in_head(n) and m is not words_out
    }
    targets = {n: m for n, m in linear.items() if is_target(n, target_modules)}
    if not targets:
        ends = sorted({name.rsplit(".", 1)[-1] for name in linear})
        wanted = target_modules if isinstance(target_modules, str) else list(target_modules)
        raise ValueError(
            f"target_modules {wanted!r} match no linear layer: choose from {', '.join(ends)}"
        )
    for name, layer in targets.items():
        largest = min(linear_weight(layer).shape)
        if r > largest:
            raise ValueError(f"r must be at most {largest} for the layer {name}, got {r}")
    return targets


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def replace_layers(
    model: nn.Module,
    targets: Mapping[str, nn.Module],
    build: Callable[[nn.Module], AdaptedLinear],
) -> None:
    """Freeze the model but for its head, and put `build(layer)` in the place of each target."""
    adapted = {name: build(layer) for name, layer in targets.items()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_in_head(name))
    for name, layer in adapted.items():
        layer.train(targets[name].training)  # dropout is on where the model is in training mode
        _replace(model, name, layer)


def merge_adapters(model: nn.Module) -> nn.Module:
    """Fold every adapter into its pretrained weight, in place, and return the plain model.

    Raises
    ------
    ValueError
        If there is no adapter, or one cannot be merged; then none has been.
    """
    layers = adapted_layers(model)
    if not layers:
        raise ValueError("this model has no adapters: put them in with inject_adapters first")
    for layer in layers.values():
        if not layer.is_mergeable:
            layer.merge()  # raises, with the method's own reason
    for name, layer in layers.items():
        _replace(model, name, layer.merge())
    return model


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return what trains, and what an adapter holds besides its pretrained layer, by name."""
    inside = tuple(f"{name}." for name in adapted_layers(model))
    pretrained = tuple(f"{name}base_layer." for name in inside)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    state = model.state_dict(keep_vars=True)
    return {
        name: tensor
        for name, tensor in state.items()
        if name in trained or (name.startswith(inside) and not name.startswith(pretrained))
    }


def adapter_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return detached copies of the adapters' tensors, frozen ones too, and of the head, by name."""
    return {name: tensor.detach().clone() for name, tensor in own_tensors(model).items()}


@torch.no_grad()
def load_adapter_state_dict(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Write what `adapter_state_dict` returned back into an equally adapted model.

    Raises
    ------
    ValueError
        If a name is missing or left over, or a shape differs; then nothing has been written.
    """
    own = own_tensors(model)
    wrong = sorted(own.keys() ^ state.keys())
    wrong += [n for n in own.keys() & state.keys() if own[n].shape != state[n].shape]
    if wrong:
        raise ValueError(
            f"these adapters do not fit the model, first at {wrong[0]}: build it with the same "
            "method, r and target_modules"
        )
    for name, tensor in own.items():
        tensor.copy_(state[name])
