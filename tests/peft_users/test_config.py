"""What use_allora takes and what it refuses, each with one sentence."""

import peft
import pytest
import torch
from torch import nn

from allora_lab.peft import ALLoRAConfig, use_allora
from tests.peft_users.models import base_model, lora_config, peft_model

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"  # PEFT's own
)


def test_every_setting_of_the_lora_config_is_kept_and_the_config_left_as_it_was():
    settings = {"lora_dropout": 0.1, "rank_pattern": {"v_proj": 2}, "alpha_pattern": {"v_proj": 2}}
    config = lora_config("llama", **settings, modules_to_save=["lm_head"], layers_to_transform=[0])
    before = config.to_dict()
    allora = use_allora(config, eta_squared=2.0)
    assert config.to_dict() == before == allora.to_dict()
    assert config._custom_modules is None
    assert (allora.eta_squared, allora.method) == (2.0, "allora")
    again = use_allora(allora, eta_squared=3.0)
    assert (again.eta_squared, allora.eta_squared) == (3.0, 2.0)
    allora.target_modules.add("other")
    assert config.to_dict() == before


REFUSED = {
    "use_dora": ({"use_dora": True}, "does not go with use_dora: DoRA has its own"),
    "use_rslora": ({"use_rslora": True}, "does not go with use_rslora: ALLoRA has no scaling"),
    "lora_bias": ({"lora_bias": True}, "does not go with lora_bias"),
    "layer_replication": ({"layer_replication": [(0, 2)]}, "does not go with layer_replication"),
    "target_parameters": ({"target_parameters": ["w"]}, "does not go with target_parameters"),
    "aLoRA": ({"alora_invocation_tokens": [1]}, "does not go with alora_invocation_tokens"),
    "KaSA": ({"kasa_config": peft.tuners.lora.config.KasaConfig()}, "does not go with kasa_config"),
    "pissa": ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa': it starts from BA = 0"),
    "olora": ({"init_lora_weights": "olora"}, "init_lora_weights='olora'"),
    "loftq": (
        {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}},
        "init_lora_weights='loftq'",
    ),
    "alpha": ({"r": 8, "lora_alpha": 16}, "no scaling factor .* set lora_alpha=8"),
    "default alpha": ({"r": 16, "lora_alpha": 8}, "lora_alpha 8 with r 16: set lora_alpha=16"),
    "rank_pattern": ({"rank_pattern": {"q_proj": 2}}, "alpha_pattern must be the same"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_be_allora_is_refused_by_name(name):
    settings, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        use_allora(lora_config("llama", **settings))


def test_the_table_of_refusals_names_fields_that_peft_has():
    from dataclasses import fields

    from allora_lab.import_peft import VARIANTS
    from allora_lab.peft.config import REFUSED as TABLE

    names = {f.name for f in fields(peft.LoraConfig)}
    assert {*TABLE, *VARIANTS} <= names
    variants = {f.name for f in fields(peft.LoraConfig) if f.metadata.get("is_lora_variant")}
    assert variants <= set(TABLE)  # whatever PEFT itself calls a variant


@pytest.mark.parametrize("eta_squared", [0.0, -1.0, float("nan"), float("inf"), 2e6])
def test_eta_squared_out_of_range_is_refused(eta_squared):
    with pytest.raises(ValueError, match="eta_squared must be"):
        use_allora(lora_config("llama"), eta_squared=eta_squared)


def test_an_unknown_method_and_another_kind_of_config_are_refused():
    with pytest.raises(ValueError, match="did you mean 'allora-update'"):
        use_allora(lora_config("llama"), method="allora-updates")
    with pytest.raises(ValueError, match=r"takes a peft\.LoraConfig, got a AdaLoraConfig"):
        use_allora(peft.AdaLoraConfig(total_step=10))


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(10, 8)
        self.linear = nn.Linear(8, 8)
        self.conv = nn.Conv1d(8, 8, 3)


@pytest.mark.parametrize(("target", "kind"), [("words", "Embedding"), ("conv", "Conv1d")])
def test_other_layers_than_linear_are_refused(target, kind):
    config = use_allora(peft.LoraConfig(target_modules=["linear", target]))
    with pytest.raises(ValueError, match=f"target_modules match {target}, a {kind}: leave it out"):
        peft.get_peft_model(Mixed(), config)


def test_quantized_weights_are_refused():
    model = Mixed()
    model.linear.weight = nn.Parameter(torch.zeros(8, 8, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match="weight of linear is quantized"):
        peft.get_peft_model(model, use_allora(peft.LoraConfig(target_modules=["linear"])))


def test_peft_refuses_allora_on_layers_that_it_built_for_plain_lora():
    model = peft.get_peft_model(base_model("llama"), lora_config("llama"))
    with pytest.raises(ValueError, match=r"unsupported variant combination: \('eta_squared',\)"):
        model.add_adapter("second", use_allora(lora_config("llama")))


def test_a_scaling_that_patterns_bring_in_is_refused_with_the_layers_name():
    pattern = {"0.self_attn.q_proj": 2, "q_proj": 3}
    turned = dict(reversed(pattern.items()))  # the first key that matches counts
    config = use_allora(lora_config("llama", rank_pattern=pattern, alpha_pattern=turned))
    with pytest.raises(ValueError, match=r"would be 3 / 2 in .*0\.self_attn\.q_proj"):
        peft.get_peft_model(base_model("llama"), config)


def test_the_config_of_a_model_is_ours():
    assert isinstance(peft_model("llama").peft_config["default"], ALLoRAConfig)
