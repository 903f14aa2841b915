"""The optimizer trap: it is measured and told; and the form on the update is our allora-update."""

import copy
import warnings

import peft
import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Adagrad, Adam, AdamW, RMSprop
from torch.optim.lr_scheduler import LambdaLR
from transformers.optimization import Adafactor

from allora_lab import inject_adapters
from allora_lab.adapters.allora_update import wrap_optimizer
from allora_lab.peft import check_optimizer, is_scale_free, use_allora, wrap_update
from tests.peft_users.models import (
    FAMILIES,
    R,
    base_model,
    fill,
    lora_config,
    loss_of,
    pairs,
    peft_model,
    steps,
    trainable,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"  # PEFT's own
)


def adafactor(parameters, **settings):
    return Adafactor(parameters, scale_parameter=False, relative_step=False, lr=1e-2, **settings)


class Sign(torch.optim.Optimizer):
    """As Lion's first step: the sign of the gradient alone; in no table of names."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.add_(parameter.grad.sign(), alpha=-group["lr"])


SCALE_FREE = {
    "adam": lambda p: Adam(p, lr=1e-3),
    "adamw, lr 0": lambda p: AdamW(p, lr=0.0, weight_decay=0.5),
    "amsgrad": lambda p: AdamW(p, lr=1e-3, amsgrad=True, foreach=False),
    "adafactor": adafactor,
    "adafactor, relative": lambda p: Adafactor(p, scale_parameter=True, relative_step=True),
    "rmsprop": lambda p: RMSprop(p, lr=1e-3),
    "adagrad": lambda p: Adagrad(p, lr=1e-3),
    "sign": lambda p: Sign(p, lr=1e-3),
    "nadam": lambda p: torch.optim.NAdam(p, lr=1e-3),
    "muon": lambda p: torch.optim.Muon([t for t in p if t.dim() == 2], lr=1e-3),
}
SCALED = {
    "sgd": lambda p: SGD(p, lr=0.1),
    "sgd, momentum and decay": lambda p: SGD(p, lr=1.0, momentum=0.9, nesterov=True, weight_decay=0.1),
    "sgd, decay above all": lambda p: SGD(p, lr=0.1, weight_decay=100.0),
    "lbfgs": lambda p: LBFGS(p),
}  # fmt: skip


@pytest.mark.parametrize("name", [*SCALE_FREE, *SCALED])
def test_whether_an_optimizer_sees_the_scale_is_measured_and_it_is_left_as_it_was(name):
    linear = nn.Linear(5, 3)
    optimizer = {**SCALE_FREE, **SCALED}[name](list(linear.parameters()))
    before = copy.deepcopy((linear.state_dict(), optimizer.state_dict()))
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append(1))
    assert is_scale_free(optimizer) == (name in SCALE_FREE)
    assert str(before) == str((linear.state_dict(), optimizer.state_dict()))
    assert not calls


def caught(optimizer, model):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        check_optimizer(optimizer, model)
    return [str(w.message) for w in found]


def test_an_adam_like_optimizer_is_warned_of_and_sgd_or_a_wrapped_one_is_not():
    model = peft_model("llama")
    optimizer = AdamW(trainable(model), lr=1e-3)
    LambdaLR(optimizer, lambda step: 0.0)  # patches step, and starts at a rate of 0
    (words,) = caught(optimizer, model)
    assert "AdamW divides a gradient's scale out again" in words
    assert "wrap_update(optimizer, model)" in words
    assert caught(SGD(trainable(model), lr=0.1), model) == []
    assert caught(wrap_update(optimizer, model), model) == []
    (words,) = caught(optimizer, model)  # the model now waits for the wrapped one
    assert "AdamW is not wrapped, so this trains plain LoRA" in words


def test_models_without_allora_are_not_warned_of():
    plain = peft.get_peft_model(base_model("llama"), lora_config("llama"))
    assert caught(AdamW(trainable(plain)), plain) == []
    model = peft_model("llama")
    assert caught(AdamW([nn.Parameter(torch.zeros(2))]), model) == []


OPTIMIZERS = {
    "sgd": lambda p: SGD(p, lr=0.1, momentum=0.9),
    "adamw": lambda p: AdamW(p, lr=0.01, weight_decay=0.1),
    "adafactor": adafactor,
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_form_on_the_update_is_our_allora_update(family, name):
    theirs = fill(peft_model(family, eta_squared=9.0))
    ours = base_model(family)
    inject_adapters(ours, "allora-update", r=R, target_modules=FAMILIES[family][1])
    with torch.no_grad():
        for mine, other in pairs(ours, theirs):
            mine.copy_(other)
    build = OPTIMIZERS[name]
    before = [mine.detach().clone() for mine, _ in pairs(ours, theirs)]
    steps(theirs, wrap_update(build(trainable(theirs)), theirs), losses=2)
    steps(ours, wrap_optimizer(build(trainable(ours)), ours, 9.0), losses=2)
    for (mine, other), start in zip(pairs(ours, theirs), before, strict=True):
        assert (mine - start).abs().max() > 1e-5
        torch.testing.assert_close(other, mine, rtol=1e-5, atol=2e-6)


def test_the_coefficient_counts_once_under_sgd():
    gradient, update = peft_model("llama"), peft_model("llama")
    steps(gradient, SGD(trainable(gradient), lr=0.1), 1)
    steps(update, wrap_update(SGD(trainable(update), lr=0.1), update), 1)
    for (name, one), other in zip(gradient.named_parameters(), update.parameters(), strict=True):
        if "lora_B" in name:
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)


def test_under_adamw_the_gradients_form_is_lora_and_the_updates_is_twice_as_far():
    moved = {}
    for form in ("lora", "allora", "allora-update"):
        torch.manual_seed(1)
        config = lora_config("llama")
        config = config if form == "lora" else use_allora(config, eta_squared=4.0)
        model = peft.get_peft_model(base_model("llama"), config)
        optimizer = AdamW(trainable(model), lr=1e-3, eps=1e-12)
        steps(model, wrap_update(optimizer, model) if form == "allora-update" else optimizer, 1)
        moved[form] = torch.cat([p.flatten() for n, p in model.named_parameters() if "lora_B" in n])
    torch.testing.assert_close(moved["allora"], moved["lora"], rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(moved["allora-update"], 2 * moved["lora"], rtol=1e-3, atol=1e-7)


def test_only_the_adapters_that_the_optimizer_holds_are_rescaled():
    model = peft_model("llama")
    model.add_adapter("second", use_allora(lora_config("llama"), eta_squared=16.0))
    wrapped = wrap_update(SGD(trainable(model), lr=0.1), model)
    assert wrapped.eta_squared == 4.0
    assert len(wrapped.layers) == 3 * 2
    assert model.peft_config["second"].method == "allora"


def test_what_cannot_be_wrapped_is_refused():
    model = peft_model("llama")
    plain = peft.get_peft_model(base_model("llama"), lora_config("llama"))
    with pytest.raises(ValueError, match="holds no adapter of use_allora"):
        wrap_update(AdamW(trainable(plain)), plain)
    with pytest.raises(ValueError, match="holds no adapter of use_allora"):
        wrap_update(AdamW(trainable(plain)), model)
    wrapped = wrap_update(AdamW(trainable(model)), model)
    with pytest.raises(ValueError, match="wrapped already"):
        wrap_update(wrapped, model)
    model.add_adapter("second", use_allora(lora_config("llama"), eta_squared=16.0))
    everything = [p for n, p in model.named_parameters() if "lora_" in n]
    with pytest.raises(ValueError, match=r"eta_squared \[4\.0, 16\.0\]"):
        wrap_update(AdamW(everything), model)


def test_an_adapter_added_later_is_refused_until_it_is_added_to_the_optimizer():
    model = peft_model("llama")
    optimizer = wrap_update(SGD(trainable(model), lr=0.1), model)
    model.add_adapter("second", use_allora(lora_config("llama")))
    model.set_adapter("second")
    loss_of(model).backward()
    with pytest.raises(ValueError, match=r"second.*add_param_group"):
        optimizer.step()
    model.zero_grad()
    optimizer.add_param_group(
        {"params": [p for n, p in model.named_parameters() if ".second." in n]}
    )
    assert model.peft_config["second"].method == "allora-update"
    loss_of(model).backward()
    with torch.no_grad():
        expected = [
            (B, B - 0.1 * 2.0 * B.grad) for n, B in model.named_parameters() if "lora_B.second" in n
        ]
    optimizer.step()
    for B, value in expected:
        assert B.grad.abs().max() > 0
        torch.testing.assert_close(B.detach(), value)


def test_an_adapter_of_another_eta_squared_cannot_join():
    model = peft_model("llama")
    optimizer = wrap_update(SGD(trainable(model), lr=0.1), model)
    model.add_adapter("second", use_allora(lora_config("llama"), eta_squared=16.0))
    added = [p for n, p in model.named_parameters() if ".second." in n]
    with pytest.raises(ValueError, match="eta_squared"):
        optimizer.add_param_group({"params": added})
    assert len(optimizer.param_groups) == len(optimizer.inner.param_groups) == 1
    assert model.peft_config["second"].method == "allora"


def test_an_adapter_put_into_the_inner_optimizer_is_refused():
    model = peft_model("llama")
    optimizer = wrap_update(SGD(trainable(model), lr=0.1), model)
    model.add_adapter("second", use_allora(lora_config("llama")))
    added = [p for n, p in model.named_parameters() if ".second." in n]
    optimizer.inner.add_param_group({"params": added})
    with pytest.raises(ValueError, match="add_param_group"):
        optimizer.step()


def test_lbfgs_is_refused():
    model = peft_model("llama")
    with pytest.raises(ValueError, match="closure"):
        wrap_update(LBFGS(trainable(model)), model)
    assert model.peft_config["default"].method == "allora"


def test_the_update_form_without_the_wrapper_warns_once():
    model = peft.get_peft_model(
        base_model("llama"), use_allora(lora_config("llama"), method="allora-update")
    )
    with pytest.warns(UserWarning, match="wrap_update") as caught:
        steps(model, SGD(trainable(model), lr=0.1))
    assert 1 <= len(caught) <= 6  # one a layer, of which Python shows the first
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps(model, wrap_update(SGD(trainable(model), lr=0.1), model))
