r"""PEFT's LoRA layer with ALLoRA's backward pass (arXiv 2410.09692, §4.2 and listing 1).

    y = W x + b + B A dropout(x),      ∇B and ∇A rescaled row by row: see `adapters.allora`

Names, shapes, merging, saving and switching adapters are PEFT's own; only the forward pass of a
layer in training is another.  Where nothing is differentiated PEFT's forward pass runs, so that the
model computes to the last bit what the saved adapter will compute in plain PEFT.
"""

import re
from typing import Any, ClassVar

import peft
import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from allora_lab.adapters.allora import ScaleRows
from allora_lab.adapters.update_layer import warn_unless_rescaled

OUTPUT_LAYERS = ("lm_head", "embed_out", "output_embeddings")  # often tied to the token embeddings


def require_adapter_name(name: str) -> None:
    """Raise ValueError unless an adapter's name can name a module and a folder."""
    if not re.fullmatch(r"[\w-]+", name) or hasattr(nn.ModuleDict, name):
        raise ValueError(
            f"the adapter's name must be of letters, digits, _ and -, and no method of torch's "
            f"ModuleDict, got {name!r}: choose another"
        )


class ALLoRALayer(Linear):
    """A LoRA layer of PEFT in which the adapters configured by `use_allora` learn as ALLoRA does.

    `allora_config` holds, by adapter, the configuration with its `eta_squared` and `method`; adapters
    that are not named there are plain LoRA, or the variant that their own configuration says.
    """

    other_param_names: ClassVar[tuple[str, ...]] = (*Linear.other_param_names, "allora_config")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.allora_config: dict[str, Any] = {}  # PEFT's own constructor already calls update_layer
        super().__init__(*args, **kwargs)

    def resolve_lora_variant(self, *, config: peft.LoraConfig, **kwargs: Any) -> Any:
        """Return PEFT's variant of an adapter; ALLoRA merges and saves as one that has none."""
        if hasattr(config, "eta_squared"):
            return None
        return super().resolve_lora_variant(config=config, **kwargs)

    def update_layer(
        self, adapter_name: str, r: int, lora_alpha: float, config: peft.LoraConfig, **kwargs: Any
    ) -> None:
        """Add an adapter as PEFT does.

        Raises
        ------
        ValueError
            If an ALLoRA adapter would have a scaling other than 1 here, or its name cannot name a
            module.
        """
        if hasattr(config, "eta_squared"):
            require_adapter_name(adapter_name)
            if lora_alpha != r:
                raise ValueError(
                    f"ALLoRA has no scaling factor, but lora_alpha / r would be {lora_alpha} / {r} "
                    f"in {kwargs.get('target_name')}: give alpha_pattern the values of rank_pattern"
                )
            self.allora_config[adapter_name] = config
        self.is_output = str(kwargs.get("target_name")).rpartition(".")[2] in OUTPUT_LAYERS
        super().update_layer(adapter_name, r, lora_alpha=lora_alpha, config=config, **kwargs)
        if getattr(config, "method", None) == "allora-update":
            warn_unless_rescaled(self.lora_B[adapter_name].weight, "wrap_update(optimizer, model)")

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Merge as PEFT does; an output layer gets a weight of its own first.

        It may be tied to the token embeddings, which a merge into the shared matrix would change too;
        PEFT then sets `tie_word_embeddings` to False, with a warning.
        """
        if self.is_output:
            base = self.get_base_layer()
            base.weight = nn.Parameter(base.weight.detach().clone(), requires_grad=False)
        super().merge(safe_merge=safe_merge, adapter_names=adapter_names)

    def scaled_adapters(self) -> list[str]:
        """Return the active adapters of this layer whose gradients are rescaled."""
        configs = self.allora_config
        return [n for n in self.active_adapters if n in configs and configs[n].method == "allora"]

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return W x + b + Σ B A dropout(x) over the active adapters.

        Raises RuntimeError when one that is neither ALLoRA nor plain LoRA is trained along with one
        of ALLoRA.
        """
        scaled = self.scaled_adapters()
        as_peft = self.disable_adapters or self.merged or kwargs.get("adapter_names") is not None
        if as_peft or not scaled or not torch.is_grad_enabled():
            return super().forward(x, *args, **kwargs)
        y = self.base_layer(x, *args, **kwargs)
        kind = y.dtype
        for name in self.active_adapters:
            if name in self.lora_variant:
                raise RuntimeError(
                    f"the adapters {scaled[0]} (ALLoRA) and {name} (another variant of LoRA) cannot "
                    "be active together in training: choose one with set_adapter"
                )
            if name in self.lora_A:
                y = self._add_adapter(y, x, name, name in scaled)
        return y.to(kind)

    def _add_adapter(self, y: Tensor, x: Tensor, name: str, is_scaled: bool) -> Tensor:
        """Return y + s · B A dropout(x); s is 1 unless PEFT's `set_scale` was called."""
        A, B = self.lora_A[name].weight, self.lora_B[name].weight
        x = self.lora_dropout[name](self._cast_input_dtype(x, A.dtype))
        if not is_scaled:
            return y + self.lora_B[name](self.lora_A[name](x)) * self.scaling[name]
        if not torch.is_autocast_enabled(x.device.type):  # then A's type, as PEFT computes it
            y = y.to(torch.promote_types(y.dtype, A.dtype))
        x = x.to(y.dtype) if self.scaling[name] == 1 else self.scaling[name] * x.to(y.dtype)
        return ScaleRows.apply(y, x, A, B, self.allora_config[name].eta_squared)[0]


def build_layer(
    target: nn.Module, adapter_name: str, config: peft.LoraConfig, **kwargs: Any
) -> ALLoRALayer:
    """Return `target` adapted by ALLoRA; PEFT calls it for every module that target_modules match.

    Raises
    ------
    ValueError
        If the adapter's name cannot name a module, or the target is neither `nn.Linear` nor `Conv1D`
        or has a quantized weight.
    """
    require_adapter_name(adapter_name)
    name = kwargs.get("target_name")
    is_conv = isinstance(target, Conv1D)
    if not (is_conv or isinstance(target, nn.Linear)):
        raise ValueError(
            f"ALLoRA adapts nn.Linear and GPT-2's Conv1D, but target_modules match {name}, a "
            f"{type(target).__name__}: leave it out"
        )
    is_quantized = kwargs.get("loaded_in_4bit") or kwargs.get("loaded_in_8bit")
    if is_quantized or not target.weight.is_floating_point():
        raise ValueError(
            f"the weight of {name} is quantized, which ALLoRA is not tested with: load the model in "
            "float32 or bfloat16"
        )
    config.fan_in_fan_out = is_conv  # as PEFT does, without its warning
    return ALLoRALayer(
        target, adapter_name, config=config, is_target_conv_1d_layer=is_conv, **kwargs
    )
