"""ALLoRA for those who fine-tune with PEFT: one line more around `LoraConfig`.

`import peft` in this folder is PEFT itself; imports here are absolute.
"""

from importlib.util import find_spec

if find_spec("peft") is None:
    raise ModuleNotFoundError(
        "allora_lab.peft works on PEFT's models, and PEFT is not installed: pip install 'peft>=0.21'",
        name="peft",
    )

from allora_lab.peft.config import ALLoRAConfig, use_allora
from allora_lab.peft.layer import ALLoRALayer
from allora_lab.peft.loading import load_adapter
from allora_lab.peft.optimizer import check_optimizer, is_scale_free, wrap_update
from allora_lab.peft.trainer import ALLoRACallback

__all__ = [
    "ALLoRACallback",
    "ALLoRAConfig",
    "ALLoRALayer",
    "check_optimizer",
    "is_scale_free",
    "load_adapter",
    "use_allora",
    "wrap_update",
]
