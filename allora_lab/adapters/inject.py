"""Put adapters into a pretrained model, take them out again, and read their state."""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from allora_lab.adapters.base import AdaptedLinear
from allora_lab.adapters.targets import is_in_head, owners_by_weight


def adapted_layers(model: nn.Module) -> dict[str, AdaptedLinear]:
    """Return the adapted layers of a model by name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, AdaptedLinear)}


def refuse_to_save(*_args: Any, **_kwargs: Any) -> NoReturn:
    """Raise ValueError: stands in for `save_pretrained` while a model has adapters."""
    raise ValueError(
        "save_pretrained would write this model under names that from_pretrained does not know, and "
        "its adapted layers would be loaded as random numbers: fold the adapters in first with "
        "merge_adapters(model), or write them alone with export_peft(model, folder)"
    )


def vocabulary_size(model: nn.Module) -> int | None:
    """Return how many rows a model's table of token embeddings has; None where there is none."""
    try:
        table = model.get_input_embeddings() if isinstance(model, PreTrainedModel) else None
    except NotImplementedError:  # a model that does not read words
        return None
    return table.num_embeddings if isinstance(table, nn.Embedding) else None


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
    if isinstance(model, PreTrainedModel):
        model.vocabulary_when_adapted = vocabulary_size(model)
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and adapted_layers(module):
            module.save_pretrained = refuse_to_save


def _untie(model: nn.Module, layer: AdaptedLinear) -> None:
    """Give an adapted layer a weight of its own, and have the configuration say so."""
    base = layer.base_layer
    base.weight = nn.Parameter(base.weight.detach().clone(), requires_grad=False)
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.config.tie_word_embeddings = False
            module.config.get_text_config().tie_word_embeddings = False
            module.all_tied_weights_keys = {}


def _require_own_weights(model: nn.Module, layers: Mapping[str, AdaptedLinear]) -> None:
    """Raise ValueError when an adapted layer shares its weight with another module."""
    owners = owners_by_weight(model)
    for name, layer in layers.items():
        others = set(owners[id(layer.base_layer.weight)]) - {f"{name}.base_layer"}
        if others:
            other = min(others).removesuffix(".base_layer")
            raise ValueError(
                f"{name} shares its weight with {other}, which a merge would change too: give it a "
                "weight of its own with merge_adapters(model, untie=True), or keep the adapter "
                "apart with export_peft"
            )


def merge_adapters(model: nn.Module, *, untie: bool = False) -> nn.Module:
    """Fold every adapter into its pretrained weight, in place, and return the plain model.

    An output layer often shares its weight with the token embeddings (`tie_word_embeddings`); a merge
    into that one matrix would change both.

    Parameters
    ----------
    untie
        Give an adapted layer that shares its weight a copy of its own first, and set
        `tie_word_embeddings` to False; the model grows by that matrix.

    Raises
    ------
    ValueError
        If there is no adapter, one cannot be merged, or one shares its weight and `untie` is False;
        then none has been merged.
    """
    layers = adapted_layers(model)
    if not layers:
        raise ValueError("this model has no adapters: put them in with inject_adapters first")
    for layer in layers.values():
        if not layer.is_mergeable:
            layer.merge()  # raises, with the method's own reason
    if untie:
        owners = owners_by_weight(model)
        for layer in layers.values():
            if len(owners[id(layer.base_layer.weight)]) > 1:
                _untie(model, layer)
    _require_own_weights(model, layers)
    for name, layer in layers.items():
        _replace(model, name, layer.merge())
    for module in model.modules():
        vars(module).pop("save_pretrained", None)
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
