"""allora_lab: check the claims of two papers about LoRA, ALLoRA and ALoRA, on a laptop.

The public names are loaded when first used, so that `allora-lab --help` does not wait for torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "METHODS": "allora_lab.methods",
    "RunConfig": "allora_lab.config",
    "adapter_state_dict": "allora_lab.adapters.inject",
    "export_peft": "allora_lab.export",
    "inject_adapters": "allora_lab.build",
    "load_adapter_state_dict": "allora_lab.adapters.inject",
    "load_peft": "allora_lab.import_peft",
    "load_model": "allora_lab.models.load",
    "load_text": "allora_lab.data.text",
    "merge_adapters": "allora_lab.adapters.inject",
    "run": "allora_lab.experiments.runner",
    "train": "allora_lab.training.loop",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'allora_lab' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return [*__all__, "__version__"]
