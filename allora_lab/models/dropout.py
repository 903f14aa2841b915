"""The pretrained model's own dropout, set to zero wherever it hides."""

from torch import nn
from transformers import PreTrainedConfig


def zero_config_dropout(config: PreTrainedConfig) -> None:
    """Set every drop probability of a configuration, and of those nested in it, to 0 in place.

    The names differ from family to family (``hidden_dropout_prob``, ``attn_pdrop``,
    ``attention_dropout``, ``layerdrop``, ``drop_path_rate``); all hold "drop" and a float.  A
    module that calls ``F.dropout`` itself reads its probability here, so this comes before the
    model is built.
    """
    for name, value in list(vars(config).items()):
        if isinstance(value, PreTrainedConfig):
            zero_config_dropout(value)
        elif "drop" in name and isinstance(value, float):
            setattr(config, name, 0.0)


def zero_module_dropout(model: nn.Module) -> None:
    """Set p = 0 in every dropout module of a model in place, whatever its configuration said."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
