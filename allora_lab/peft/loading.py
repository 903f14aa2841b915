"""An ALLoRA adapter that was saved, loaded into PEFT to train on."""

import re
from pathlib import Path

import peft
from transformers import PreTrainedModel

from allora_lab.peft.config import ALLoRAConfig, use_allora
from allora_lab.peft.layer import require_adapter_name
from allora_lab.peft_files import (
    CONFIG,
    PeftFiles,
    read_adapter,
    read_config,
    require_adapter_files,
)
from allora_lab.sidecar import SIDECAR, Sidecar, read_sidecar


def _without_expressions(config: ALLoRAConfig, files: PeftFiles) -> ALLoRAConfig:
    """Return the configuration with the names of the layers in the place of expressions.

    PEFT matches expressions without a limit of time, and a file may hold one such as `(.*)*x`.
    """
    fields = ("rank_pattern", "alpha_pattern", "exclude_modules", "layers_pattern")
    if isinstance(config.target_modules, str) or any(getattr(config, name) for name in fields):
        config.target_modules = list(files.layers)
        uneven = {f"^{re.escape(n)}": r for n, r in files.ranks.items() if r != config.r}
        config.rank_pattern, config.alpha_pattern = uneven, dict(uneven)
        config.exclude_modules = config.layers_pattern = config.layers_to_transform = None
    return config


def _saved_config(folder: Path | str, eta_squared: float | None) -> ALLoRAConfig:
    """Return the configuration of a saved adapter; η² is `allora.json`'s unless one is given."""
    require_adapter_files(folder)
    read_config(folder)  # raises unless it is LoRA's
    sidecar = read_sidecar(folder)
    if eta_squared is not None:
        sidecar = Sidecar(eta_squared=eta_squared, method=sidecar.method if sidecar else "allora")
    if sidecar is None:
        raise FileNotFoundError(
            f"{folder} has no {SIDECAR}, so the eta_squared it was trained with is unknown: give "
            "eta_squared, or load a plain LoRA with peft.PeftModel.from_pretrained"
        )
    try:
        plain = peft.LoraConfig.from_pretrained(str(folder))
    except TypeError as error:
        raise ValueError(f"{Path(folder) / CONFIG} is not a LoraConfig: {error}") from None
    config = use_allora(plain, eta_squared=sidecar.eta_squared, method=sidecar.method)
    return _without_expressions(config, read_adapter(folder))


def load_adapter(
    model: PreTrainedModel | peft.PeftModel,
    folder: Path | str,
    *,
    adapter_name: str = "default",
    is_trainable: bool = True,
    eta_squared: float | None = None,
) -> peft.PeftModel:
    """Return `model` with the ALLoRA adapter of a folder, ready to train on.

    For inference this is not needed: `peft.PeftModel.from_pretrained` loads the same adapter as a
    plain LoRA, which computes the same.

    Parameters
    ----------
    model
        The pretrained model; or a PEFT model, which gets one adapter more and keeps its active one.
        As in PEFT, one that is not to train puts the model into evaluation mode.
    folder
        Where `save_pretrained` wrote the adapter, or a checkpoint of `Trainer`.
    adapter_name
        Its name in the model.
    is_trainable
        Whether it trains; PEFT's own default is that it does not.
    eta_squared
        Overrides what `allora.json` says, and stands in for it where there is none.

    Raises
    ------
    FileNotFoundError
        If the folder or one of its files is missing.
    ValueError
        If a file is corrupt, the weights are a pickle, eta_squared is out of range, adapter_name
        cannot name a module, or the adapter is of a kind that `use_allora` refuses.
    """
    require_adapter_name(adapter_name)
    config = _saved_config(folder, eta_squared)
    if not isinstance(model, peft.PeftModel):
        return peft.PeftModel.from_pretrained(
            model, str(folder), adapter_name, is_trainable=is_trainable, config=config
        )
    config.inference_mode = not is_trainable
    model.add_adapter(adapter_name, config)
    if is_trainable:
        model.set_requires_grad(adapter_name)
    model.load_adapter(str(folder), adapter_name, is_trainable=is_trainable)
    return model
