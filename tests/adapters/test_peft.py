"""LoRA, rsLoRA and DoRA against PEFT, to 1e-6 in outputs and gradients."""

import peft
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from allora_lab import inject_adapters
from allora_lab.adapters.inject import adapted_layers
from allora_lab.allocation.places import gated_layers
from allora_lab.allocation.sensitivity import Sensitivity

D_IN, HIDDEN, D_OUT, R = 24, 19, 17, 4
METHODS = {"lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}}


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Linear(D_IN, HIDDEN)
        self.value = nn.Linear(HIDDEN, D_OUT)

    def forward(self, x):
        return self.value(torch.tanh(self.query(x)))


def pair(method):
    """Return our model and PEFT's, both in float64 with the same factors away from their start."""
    torch.manual_seed(0)
    ours, theirs = TwoLayers().double(), TwoLayers().double()
    theirs.load_state_dict(ours.state_dict())
    inject_adapters(ours, method, r=R, lora_alpha=7)
    config = peft.LoraConfig(
        r=R, lora_alpha=7, target_modules=["query", "value"], **METHODS[method]
    )
    theirs = peft.get_peft_model(theirs, config)
    with torch.no_grad():
        for name in ("query", "value"):
            mine, other = getattr(ours, name), getattr(theirs.base_model.model, name)
            mine.lora_B.normal_()
            other.lora_A["default"].weight.copy_(mine.lora_A)
            other.lora_B["default"].weight.copy_(mine.lora_B)
            if method == "dora":
                mine.lora_magnitude_vector.mul_(1.3)
                other.lora_magnitude_vector["default"].weight.copy_(mine.lora_magnitude_vector)
    return ours, theirs


@pytest.mark.parametrize("method", METHODS)
def test_outputs_and_gradients_are_pefts(method, rng):
    ours, theirs = pair(method)
    x = torch.randn(3, 5, D_IN, generator=rng, dtype=torch.float64, requires_grad=True)
    x_twin = x.detach().clone().requires_grad_()
    y, y_twin = ours(x), theirs(x_twin)
    torch.testing.assert_close(y, y_twin, rtol=1e-6, atol=1e-6)
    y.square().sum().backward()
    y_twin.square().sum().backward()
    torch.testing.assert_close(x.grad, x_twin.grad, rtol=1e-6, atol=1e-6)
    for name in ("query", "value"):
        mine, other = getattr(ours, name), getattr(theirs.base_model.model, name)
        pairs = {
            "lora_A": other.lora_A["default"].weight,
            "lora_B": other.lora_B["default"].weight,
        }
        if method == "dora":
            pairs["lora_magnitude_vector"] = other.lora_magnitude_vector["default"].weight
        for key, parameter in pairs.items():
            gradient = mine.get_parameter(key).grad
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_merged_weights_are_pefts(method):
    ours, theirs = pair(method)
    merged = theirs.merge_and_unload()
    torch.testing.assert_close(
        ours.query.merged_weight(), merged.query.weight.data, rtol=1e-6, atol=1e-6
    )


def test_adaloras_outputs_gradients_and_sensitivities_are_pefts(rng):
    torch.manual_seed(0)
    ours, theirs = TwoLayers().double(), TwoLayers().double()
    theirs.load_state_dict(ours.state_dict())
    inject_adapters(ours, "adalora", r=R, lora_alpha=7)
    config = peft.AdaLoraConfig(
        init_r=R, lora_alpha=7, target_modules=["query", "value"], total_step=100, tinit=1, tfinal=1
    )
    theirs = peft.get_peft_model(theirs, config).base_model
    allocator = theirs.rankallocator
    sensitivity = Sensitivity(gated_layers(ours))
    with torch.no_grad():
        for name in ("query", "value"):
            mine, other = getattr(ours, name), getattr(theirs.model, name)
            mine.lora_E.normal_()
            other.lora_A["default"].copy_(mine.lora_A)
            other.lora_B["default"].copy_(mine.lora_B)
            other.lora_E["default"].copy_(mine.lora_E[:, None])
            other.ranknum["default"].fill_(R - 1e-5)  # PEFT divides α by r + 1e-5
    for _ in range(3):
        x = torch.randn(3, 5, D_IN, generator=rng, dtype=torch.float64)
        ours.zero_grad()
        theirs.model.zero_grad()
        y, y_twin = ours(x), theirs.model(x)
        torch.testing.assert_close(y, y_twin, rtol=1e-6, atol=1e-6)
        y.square().sum().backward()
        y_twin.square().sum().backward()
        sensitivity.update()
        allocator.update_ipt(theirs.model)
    for name in ("query", "value"):
        mine, other = getattr(ours, name), getattr(theirs.model, name)
        row = 0
        for key, axis in (("lora_A", 1), ("lora_B", 0), ("lora_E", 1)):
            twin = getattr(other, key)["default"]
            gradient = getattr(mine, key).grad.view(twin.shape)
            torch.testing.assert_close(gradient, twin.grad, rtol=1e-5, atol=1e-6)
            row = row + allocator._element_score(f"{name}.{key}.default").mean(dim=axis)
        torch.testing.assert_close(sensitivity.scores()[name], row.detach(), rtol=1e-5, atol=0)


def test_names_are_matched_as_peft_matches_them():
    from allora_lab.adapters.targets import is_target

    names = ["query", "layer.0.query", "my_query", "query.dense", "layer.10.value", "value"]
    for targets in (["query"], ["0.query", "value"], r".*\.(query|value)", ["dense"]):
        config = peft.LoraConfig(target_modules=targets)
        for name in names:
            theirs = bool(peft.tuners.tuners_utils.check_target_module_exists(config, name))
            assert is_target(name, targets) == theirs, (targets, name)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's own
@pytest.mark.parametrize("task", ["CAUSAL_LM", "SEQ_CLS"])
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"], r".*\.1\..*_proj"])
def test_the_layers_adapted_in_a_decoder_are_those_peft_adapts(task, targets):
    shape = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    config = LlamaConfig(**shape, num_attention_heads=2, vocab_size=50, pad_token_id=0)
    kind = {"CAUSAL_LM": LlamaForCausalLM, "SEQ_CLS": LlamaForSequenceClassification}[task]
    ours, theirs = kind(config), kind(config)
    inject_adapters(ours, "lora", r=2, target_modules=targets)
    twin = peft.get_peft_model(
        theirs, peft.LoraConfig(r=2, target_modules=targets, task_type=task)
    ).base_model.model
    adapted = {n for n, m in twin.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)}
    assert set(adapted_layers(ours)) == adapted
