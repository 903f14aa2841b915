"""Unless asked to stay, the pretrained model's dropout is gone, wherever its family keeps it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BertConfig, PreTrainedConfig

from allora_lab.models.dropout import zero_config_dropout, zero_module_dropout
from allora_lab.models.load import load_model

TASKS = {"bert": "sequence-classification", "gpt2": "causal-lm", "llama": "causal-lm"}


def two_passes(folder: Path, family: str, *, base_dropout: bool) -> list[torch.Tensor]:
    loaded = load_model(str(folder), TASKS[family], base_dropout=base_dropout)
    model = loaded.model.train()
    tokens = torch.tensor([[3, 4, 5, 6, 1], [3, 4, 5, 7, 1]])
    with torch.no_grad():
        return [model(input_ids=tokens).logits for _ in range(2)]


@pytest.mark.parametrize("family", TASKS)
def test_in_training_mode_two_passes_agree_exactly(family: str, tiny_folder: Callable[[str], Path]):
    first, second = two_passes(tiny_folder(family), family, base_dropout=False)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("family", TASKS)
def test_with_base_dropout_two_passes_differ(family: str, tiny_folder: Callable[[str], Path]):
    first, second = two_passes(tiny_folder(family), family, base_dropout=True)
    assert not torch.allclose(first, second)


def test_every_drop_probability_of_a_configuration_becomes_zero_and_nothing_else_moves():
    inner = BertConfig(hidden_dropout_prob=0.2)
    outer = PreTrainedConfig()
    outer.text_config, outer.attn_pdrop, outer.layerdrop = inner, 0.3, 0.4
    outer.use_dropout, outer.classifier_dropout, outer.scale = True, None, 0.7
    zero_config_dropout(outer)
    assert (outer.attn_pdrop, outer.layerdrop, inner.hidden_dropout_prob) == (0.0, 0.0, 0.0)
    assert inner.layer_norm_eps == 1e-12
    assert (outer.use_dropout, outer.classifier_dropout, outer.scale) == (True, None, 0.7)


def test_dropout_modules_no_configuration_speaks_of_are_stilled_too():
    model = nn.Sequential(nn.Dropout(0.3), nn.Sequential(nn.Dropout1d(0.2)))
    x = torch.ones(2, 7, 5)
    zero_module_dropout(model.train())
    torch.testing.assert_close(model(x), x, rtol=0, atol=0)
