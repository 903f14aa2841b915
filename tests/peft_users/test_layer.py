"""What PEFT builds from `use_allora` is our own ALLoRA, and otherwise behaves as PEFT's LoRA."""

import copy

import peft
import pytest
import torch
from torch.optim import SGD, AdamW
from transformers import LlamaConfig, LlamaForCausalLM

from allora_lab.peft import ALLoRALayer, use_allora
from tests.peft_users.models import (
    FAMILIES,
    WORDS,
    R,
    base_model,
    fill,
    logits,
    lora_config,
    loss_of,
    pairs,
    peft_model,
    steps,
    trainable,
    twins,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"  # PEFT's own
)
CLOSE = {"rtol": 1e-6, "atol": 1e-6}


def plain_twin(family, model, **settings):
    """Return PEFT's own LoRA model with the tensors of `model`."""
    torch.manual_seed(1)
    twin = peft.get_peft_model(base_model(family), lora_config(family, **settings))
    twin.load_state_dict(model.state_dict())
    return twin


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("eta_squared", [1.0, 9.0])
def test_outputs_gradients_and_steps_are_our_own_alloras(family, eta_squared):
    theirs, ours = twins(family, eta_squared=eta_squared)
    losses = loss_of(theirs), loss_of(ours)
    torch.testing.assert_close(*losses, **CLOSE)
    for loss in losses:
        loss.backward()
    for mine, other in pairs(ours, theirs):
        assert mine.grad.abs().max() > 0
        torch.testing.assert_close(other.grad, mine.grad, **CLOSE)
    for build in (lambda p: SGD(p, lr=0.5, momentum=0.9), lambda p: AdamW(p, lr=1e-3)):
        steps(theirs, build(trainable(theirs)))
        steps(ours, build(trainable(ours)))
        for mine, other in pairs(ours, theirs):
            torch.testing.assert_close(other, mine, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_start_is_pefts_and_the_gradients_are_not(family):
    ours = peft_model(family)
    plain = peft.get_peft_model(base_model(family), lora_config(family))
    torch.manual_seed(1)
    plain = peft.get_peft_model(base_model(family), lora_config(family))
    for (name, mine), (twin, other) in zip(
        ours.named_parameters(), plain.named_parameters(), strict=True
    ):
        assert name == twin
        assert torch.equal(mine, other)
        assert mine.requires_grad == other.requires_grad
    loss_of(ours).backward()
    loss_of(plain).backward()
    for name, parameter in ours.named_parameters():
        other = plain.get_parameter(name)
        if "lora_B" in name:  # rows at zero: η times the gradient, η = 2
            torch.testing.assert_close(parameter.grad, 2 * other.grad, **CLOSE)
        elif other.grad is not None:
            torch.testing.assert_close(parameter.grad, other.grad, **CLOSE)


@pytest.mark.parametrize("family", FAMILIES)
def test_inference_merging_and_unloading_are_pefts_to_the_last_bit(family):
    model = fill(peft_model(family))
    plain = plain_twin(family, model)
    untouched = logits(base_model(family))
    assert torch.equal(logits(model), logits(plain))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(logits(model), logits(plain))
    with model.disable_adapter(), plain.disable_adapter():
        assert torch.equal(logits(model), logits(plain))
        assert torch.equal(loss_of(model), loss_of(plain))  # with gradients on, too
    model.merge_adapter()
    plain.merge_adapter()
    assert torch.equal(logits(model), logits(plain))
    assert torch.equal(loss_of(model), loss_of(plain))
    model.unmerge_adapter()
    merged, merged_plain = (
        copy.deepcopy(m).merge_and_unload(safe_merge=True)
        for m in (model, plain_twin(family, model))
    )
    assert torch.equal(logits(merged), logits(merged_plain))
    assert not any(isinstance(m, ALLoRALayer) for m in merged.modules())
    assert (logits(merged) - untouched).abs().max() > 1e-3
    if family != "bert":  # whose head is a copy that trains
        torch.testing.assert_close(logits(model.unload()), untouched, rtol=0, atol=1e-6)


def test_dropout_is_our_allora_dropouts():
    theirs, ours = twins("llama", "allora-dropout", lora_dropout=0.3)
    losses = []
    for model in (theirs, ours):
        model.train()
        torch.manual_seed(5)
        losses.append(loss_of(model))
        losses[-1].backward()
    torch.testing.assert_close(*losses, **CLOSE)
    assert (losses[0] - loss_of(theirs.eval())).abs() > 1e-4
    for mine, other in pairs(ours, theirs):
        torch.testing.assert_close(other.grad, mine.grad, **CLOSE)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")  # its old name
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(family, use_reentrant):
    model = fill(peft_model(family)).train()
    loss_of(model).backward()
    expected = [p.grad.clone() for p in trainable(model)]
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    model.enable_input_require_grads()
    loss_of(model).backward()
    for parameter, gradient in zip(trainable(model), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, **CLOSE)


@pytest.mark.parametrize("family", FAMILIES)
def test_accumulated_gradients_are_those_of_our_own(family):
    theirs, ours = twins(family)
    steps(theirs, SGD(trainable(theirs), lr=0.1), losses=3)
    steps(ours, SGD(trainable(ours), lr=0.1), losses=3)
    for mine, other in pairs(ours, theirs):
        torch.testing.assert_close(other, mine, **CLOSE)


@pytest.mark.parametrize("family", FAMILIES)
def test_under_autocast_it_computes_what_our_own_does(family):
    theirs, ours = twins(family)
    losses = []
    for model in (theirs, ours):
        with torch.autocast("cpu", torch.bfloat16):
            losses.append(loss_of(model))
        losses[-1].backward()
    assert torch.equal(*losses)
    for mine, other in pairs(ours, theirs):
        assert other.grad.dtype == torch.float32
        assert torch.equal(other.grad, mine.grad)


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bfloat16_weights_the_forward_pass_is_pefts(family):
    model = fill(peft_model(family, base=base_model(family).bfloat16()))
    torch.manual_seed(1)
    plain = peft.get_peft_model(base_model(family).bfloat16(), lora_config(family))
    plain.load_state_dict(model.state_dict())
    assert all(p.dtype == torch.float32 for n, p in model.named_parameters() if "lora_" in n)
    assert torch.equal(logits(model), logits(plain))
    out, other = model(input_ids=WORDS).logits, plain(input_ids=WORDS).logits
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, other, rtol=0.02, atol=0.01)
    wide = peft_model(family)
    wide.load_state_dict(model.state_dict())  # the same numbers in float32
    for twin in (model, wide):
        loss_of(twin).backward()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            exact = wide.get_parameter(name).grad
            assert torch.cosine_similarity(parameter.grad.flatten(), exact.flatten(), 0) > 0.99


def test_two_adapters_learn_apart_each_with_its_own_eta_squared():
    model = peft_model("llama", eta_squared=4.0)
    model.add_adapter("second", use_allora(lora_config("llama"), eta_squared=16.0))
    fill(model)
    for name, eta_squared in (("default", 4.0), ("second", 16.0)):
        model.set_adapter(name)
        alone = peft_model("llama", eta_squared=eta_squared)
        with torch.no_grad():
            for key, parameter in alone.named_parameters():
                parameter.copy_(model.get_parameter(key.replace("default", name)))
        model.zero_grad()
        loss_of(model).backward()
        loss_of(alone).backward()
        for key, parameter in alone.named_parameters():
            if "lora_" in key:
                twin = model.get_parameter(key.replace("default", name))
                torch.testing.assert_close(twin.grad, parameter.grad, **CLOSE)
        others = {"default": "second", "second": "default"}[name]
        assert all(p.grad is None for n, p in model.named_parameters() if others in n)


def test_a_plain_adapter_beside_one_of_alloras_stays_plain():
    model = peft_model("llama")
    model.add_adapter("plain", lora_config("llama", r=2, lora_alpha=6))
    fill(model)
    torch.manual_seed(1)
    alone = peft.get_peft_model(base_model("llama"), lora_config("llama"), "first")
    alone.add_adapter("plain", lora_config("llama", r=2, lora_alpha=6))
    with torch.no_grad():
        for key, parameter in alone.named_parameters():
            parameter.copy_(model.get_parameter(key.replace("first", "default")))
    model.set_adapter("plain")
    alone.set_adapter("plain")
    loss_of(model).backward()
    loss_of(alone).backward()
    for key, parameter in alone.named_parameters():
        if "plain" in key:
            assert torch.equal(parameter.grad, model.get_parameter(key).grad)
    # both at once: outputs are PEFT's, and only ALLoRA's gradients are rescaled
    model.base_model.set_adapter(["default", "plain"])
    alone.base_model.set_adapter(["first", "plain"])
    model.zero_grad()
    alone.zero_grad()
    losses = loss_of(model), loss_of(alone)
    torch.testing.assert_close(*losses, **CLOSE)
    for loss in losses:
        loss.backward()
    for key, parameter in alone.named_parameters():
        if "plain" in key:
            torch.testing.assert_close(parameter.grad, model.get_parameter(key).grad, **CLOSE)
        if "first" in key:
            scaled = model.get_parameter(key.replace("first", "default")).grad
            assert not torch.allclose(parameter.grad, scaled, **CLOSE)


def test_active_along_with_dora_it_is_refused_in_training():
    model = peft_model("llama")
    model.add_adapter("dora", lora_config("llama", use_dora=True))
    model.base_model.set_adapter(["default", "dora"])
    with pytest.raises(RuntimeError, match=r"default \(ALLoRA\) and dora .* choose one"):
        loss_of(model)
    model.set_adapter("dora")
    loss_of(model).backward()


def test_mixed_batches_deleted_and_weighted_adapters_are_pefts():
    model = peft_model("llama")
    model.add_adapter("second", use_allora(lora_config("llama")))
    fill(model)
    plain = peft.get_peft_model(base_model("llama"), lora_config("llama"))
    plain.add_adapter("second", lora_config("llama"))
    plain.load_state_dict(model.state_dict())
    model.eval()
    plain.eval()
    names = {"adapter_names": ["second", "__base__"]}
    for is_on in (False, True):
        with torch.set_grad_enabled(is_on):
            mixed, other = (m(input_ids=WORDS, **names).logits for m in (model, plain))
        assert torch.equal(mixed, other)
    for twin in (model, plain):
        twin.add_weighted_adapter(["default", "second"], [0.5, 0.5], "both", combination_type="cat")
        twin.set_adapter("both")
    assert torch.equal(logits(model), logits(plain))
    model.delete_adapter("second")
    layer = next(m for m in model.modules() if isinstance(m, ALLoRALayer))
    assert set(layer.allora_config) == {"default", "both"}


def test_a_scale_set_by_peft_counts_in_training_as_in_inference():
    model = fill(peft_model("llama"))
    for layer in model.modules():
        if isinstance(layer, ALLoRALayer):
            layer.set_scale("default", 0.5)
    with torch.no_grad():
        expected = loss_of(model)
    torch.testing.assert_close(loss_of(model), expected, **CLOSE)


@pytest.mark.parametrize("settings", [
    {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 2}},
    {"modules_to_save": ["lm_head"]},
    {"bias": "all"},
    {"init_lora_weights": "gaussian"},
    {"exclude_modules": ["v_proj"]},
])  # fmt: skip
def test_pefts_other_settings_work_as_they_do_there(settings):
    model = fill(peft_model("llama", **settings))
    plain = plain_twin("llama", model, **settings)
    assert torch.equal(logits(model), logits(plain))
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [
        n for n, p in plain.named_parameters() if p.requires_grad
    ]
    loss_of(model).backward()


def test_all_linear_adapts_what_peft_adapts():
    for family in FAMILIES:
        kinds = []
        for wrap in (use_allora, lambda config: config):
            config = peft.LoraConfig(target_modules="all-linear", task_type=FAMILIES[family][2])
            config.fan_in_fan_out = family == "gpt2"
            model = peft.get_peft_model(base_model(family), wrap(config))
            kinds.append([n for n, m in model.named_modules() if hasattr(m, "lora_A")])
        assert kinds[0] == kinds[1] != []


def test_a_copied_model_keeps_its_eta_squared():
    model = copy.deepcopy(peft_model("llama", eta_squared=9.0))
    model.peft_config["default"].eta_squared = 1.0
    layer = next(m for m in model.modules() if isinstance(m, ALLoRALayer))
    assert layer.allora_config["default"] is model.peft_config["default"]
    assert layer.r["default"] == R


@pytest.mark.filterwarnings("ignore")  # PEFT's own, of tied layers
def test_merging_an_output_layer_leaves_the_tied_embeddings_alone(tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 36, "num_attention_heads": 3, "vocab_size": 12}
    plain = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=1, tie_word_embeddings=True))
    config = lora_config("llama")
    config.target_modules = {"lm_head"}
    model = fill(peft.get_peft_model(plain, use_allora(config))).eval()
    before, embeddings = logits(model), plain.get_input_embeddings().weight.detach().clone()
    model.merge_adapter()
    torch.testing.assert_close(logits(model), before)
    model.unmerge_adapter()
    torch.testing.assert_close(logits(model), before)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged), before)
    assert torch.equal(merged.get_input_embeddings().weight, embeddings)
    merged.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(LlamaForCausalLM.from_pretrained(tmp_path)), before)
