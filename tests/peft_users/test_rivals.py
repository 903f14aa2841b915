"""LoRA+ and PiSSA as PEFT builds them, beside ALLoRA: recipes, each with what it must come to."""

import copy

import peft
import pytest
import torch
from peft.optimizers import create_loraplus_optimizer
from torch.optim import SGD, AdamW

from allora_lab import load_peft
from allora_lab.peft import wrap_update
from tests.peft_users.models import (
    base_model,
    logits,
    lora_config,
    peft_model,
    steps,
    trainable,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"  # PEFT's own
)


def moved(model, start):
    """Return how far each A and B went, by name."""
    twins = dict(start.named_parameters())
    return {n: (p - twins[n]).norm().item() for n, p in model.named_parameters() if "lora_" in n}


def test_lora_plus_gives_b_sixteen_times_the_rate_of_a():
    torch.manual_seed(1)
    model = peft.get_peft_model(base_model("llama"), lora_config("llama"))
    optimizer = create_loraplus_optimizer(model, AdamW, lr=1e-3, loraplus_lr_ratio=16)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            assert rates[id(parameter)] == 1e-3
        elif "lora_B" in name:
            assert rates[id(parameter)] == 16e-3


def test_lora_plus_goes_with_the_coefficient_on_the_update():
    model = peft_model("llama", eta_squared=4.0)
    plain = peft.get_peft_model(base_model("llama"), lora_config("llama"))
    plain.load_state_dict(model.state_dict())
    start = copy.deepcopy(plain)
    settings = {"lr": 1e-3, "loraplus_lr_ratio": 16, "eps": 1e-12}
    steps(plain, create_loraplus_optimizer(plain, AdamW, **settings), 1)
    steps(model, wrap_update(create_loraplus_optimizer(model, AdamW, **settings), model), 1)
    theirs, ours = moved(plain, start), moved(model, start)
    for name, distance in theirs.items():
        if "lora_B" in name:  # rows at zero go η = 2 times as far
            assert ours[name] == pytest.approx(2 * distance, rel=1e-3)


@pytest.mark.filterwarnings("ignore:PiSSA changes the base weights:UserWarning")  # it does
def test_pissa_starts_as_the_pretrained_model_and_converted_it_is_read_here(tmp_path):
    config = lora_config("llama", init_lora_weights="pissa")
    model = peft.get_peft_model(base_model("llama"), config)
    before = logits(base_model("llama"))
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-5)
    assert all(p.norm() > 0 for n, p in model.named_parameters() if "lora_B" in n)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "start")
    model.peft_config["default"].init_lora_weights = "pissa"
    steps(model, SGD(trainable(model), lr=0.1))
    assert (logits(model) - before).abs().max() > 1e-3
    model.save_pretrained(
        tmp_path / "trained", path_initial_model_for_weight_conversion=str(tmp_path / "start")
    )
    ours = load_peft(base_model("llama"), tmp_path / "trained")
    assert (logits(ours) - logits(model)).abs().max() < 1e-5
    model.save_pretrained(tmp_path / "as it is")
    with pytest.raises(ValueError, match="path_initial_model_for_weight_conversion"):
        load_peft(base_model("llama"), tmp_path / "as it is")
