r"""`use_allora`: the one line that a PEFT user adds.

    model = peft.get_peft_model(model, use_allora(peft.LoraConfig(r=8, ...), eta_squared=4.0))

The configuration that comes back is PEFT's own with two fields more, which are kept out of
`adapter_config.json` and written beside it as `allora.json`.  PEFT writes the configuration whenever
it saves an adapter, so `model.save_pretrained`, `push_to_hub` and the checkpoints of `Trainer` all
hold both files.
"""

import os
from copy import deepcopy
from dataclasses import dataclass, field, fields
from typing import Any

import peft
from torch import nn

from allora_lab.checks import require_known
from allora_lab.peft.layer import build_layer
from allora_lab.sidecar import SIDECAR_METHODS, Sidecar, write_sidecar

PLAIN_STARTS = (True, False, "gaussian")  # init_lora_weights that leave the pretrained weight alone
REFUSED = {  # what else LoraConfig can ask for, and why ALLoRA does not do it
    "use_dora": "DoRA has its own forward pass and its own gradients",
    "use_rslora": "ALLoRA has no scaling factor (s = 1), and rsLoRA's is lora_alpha / √r",
    "lora_bias": "ALLoRA's update is B A x, without a bias",
    "layer_replication": "it changes the model that the adapter belongs to",
    "target_parameters": "ALLoRA adapts layers, not bare parameters",
    "megatron_config": "Megatron's parallel layers are not nn.Linear",
    "alora_invocation_tokens": "activated LoRA has its own forward pass",
    "use_qalora": "QALoRA has its own forward pass",
    "use_bdlora": "BD-LoRA has its own forward pass",
    "arrow_config": "Arrow has its own forward pass",
    "kasa_config": "KaSA has its own forward pass and changes the pretrained weight",
    "velora_config": "VeLoRA has its own backward pass",
    "monteclora_config": "MonteCLoRA has its own forward pass",
}


def _register(config: peft.LoraConfig) -> None:
    config._register_custom_module({nn.Module: build_layer})  # before PEFT's own layers


@dataclass
class ALLoRAConfig(peft.LoraConfig):
    """A `LoraConfig` that builds ALLoRA's layers; made by `use_allora`.

    Attributes
    ----------
    eta_squared
        η²; a row of B that is at zero learns η times as fast.
    method
        "allora", the coefficient on the gradients as published; or "allora-update", on the
        optimizer's steps, which `wrap_update` sets.
    """

    eta_squared: float = field(default=4.0, metadata={"is_lora_variant": True})
    method: str = "allora"

    def __post_init__(self) -> None:
        """Check the two fields, and have PEFT build our layers."""
        super().__post_init__()
        Sidecar(eta_squared=self.eta_squared, method=self.method)  # raises
        _register(self)

    def to_dict(self) -> dict[str, Any]:
        """Return what `adapter_config.json` says: a plain LoRA."""
        ours = ("eta_squared", "method")
        return {k: v for k, v in super().to_dict().items() if k not in ours}

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Write `adapter_config.json` and, beside it, `allora.json`."""
        super().save_pretrained(save_directory, **kwargs)
        write_sidecar(save_directory, Sidecar(eta_squared=self.eta_squared, method=self.method))


def require_plain(config: peft.LoraConfig) -> None:
    """Raise ValueError, naming the setting, for a configuration that ALLoRA cannot follow."""
    if type(config) not in (peft.LoraConfig, ALLoRAConfig):
        raise ValueError(
            f"use_allora takes a peft.LoraConfig, got a {type(config).__name__}: ALLoRA changes how "
            "LoRA's own matrices learn"
        )
    for name, reason in REFUSED.items():
        if getattr(config, name, None):
            raise ValueError(f"ALLoRA does not go with {name}: {reason}; leave it out")
    if config.init_lora_weights not in PLAIN_STARTS:
        raise ValueError(
            f"ALLoRA does not go with init_lora_weights={config.init_lora_weights!r}: it starts from "
            "BA = 0 and the pretrained weights as they are; use True or 'gaussian'"
        )
    if config.lora_alpha != config.r:
        raise ValueError(
            f"ALLoRA has no scaling factor (s = lora_alpha / r = 1), got lora_alpha "
            f"{config.lora_alpha} with r {config.r}: set lora_alpha={config.r}, and eta_squared "
            "instead"
        )
    if dict(config.rank_pattern) != dict(config.alpha_pattern):
        raise ValueError(
            "ALLoRA has no scaling factor (s = lora_alpha / r = 1), so alpha_pattern must be the "
            f"same as rank_pattern: got {config.alpha_pattern} and {config.rank_pattern}"
        )


def use_allora(
    config: peft.LoraConfig, *, eta_squared: float = 4.0, method: str = "allora"
) -> ALLoRAConfig:
    r"""Return a configuration from which PEFT builds ALLoRA instead of LoRA (arXiv 2410.09692, §4.2).

    `peft.get_peft_model(model, use_allora(config))` then trains row i of B, and A through it, with
    gradients multiplied by 1 / √(||(BA)_i|| + 1/η²).  `nn.Linear` and GPT-2's Conv1D are adapted;
    everything else about the model is PEFT's: several adapters, `disable_adapter`, merging, and
    `save_pretrained`, which writes a plain LoRA adapter and `allora.json` beside it.

    **The optimizer.**  Adam, AdamW, Adafactor, Lion and every other optimizer whose step does not
    change with the scale of the gradients divide the coefficient out again: under them this is LoRA,
    to the third digit.  Use SGD; or `wrap_update(optimizer, model)`, which puts the coefficient on
    the optimizer's step (this project's own form, in no paper).  `check_optimizer` and
    `ALLoRACallback` warn of it.

    **Scaling.**  ALLoRA's forward pass has s = 1, so lora_alpha must equal r; PEFT's default is
    lora_alpha = 8 whatever r is.  With rank_pattern give alpha_pattern the same values.

    **Dropout.**  lora_dropout = 0 is the ALLoRA of the arXiv text; 0.05 is its ALLoRA+D, which the
    ICLR submission calls ALLoRA.  It acts on the input of A, as everywhere in PEFT.

    Parameters
    ----------
    config
        A `LoraConfig`, which is left as it was.  Refused are its variants of LoRA (DoRA, rsLoRA,
        aLoRA and others), starts that change the pretrained weight (PiSSA, OLoRA, LoftQ and others),
        lora_bias, layer_replication and target_parameters.
    eta_squared
        η², above 0 and at most 1e6.  The paper tries 1, 2 and 4.
    method
        "allora"; or "allora-update", whose layers are plain LoRA until the optimizer is wrapped.

    Raises
    ------
    ValueError
        For what is refused, or a value out of range.  When PEFT builds the layers: for another kind
        of layer, a quantized one, or one that has plain LoRA adapters already (PEFT's words for that
        are "unsupported variant combination"): give the model its ALLoRA adapter first.
    """
    require_known("method", method, SIDECAR_METHODS)
    require_plain(config)
    values = {f.name: deepcopy(getattr(config, f.name)) for f in fields(peft.LoraConfig) if f.init}
    values["lora_alpha"] = config.r  # the same number, and an int also where 8.0 was written
    return ALLoRAConfig(**{**values, "eta_squared": eta_squared, "method": method})
