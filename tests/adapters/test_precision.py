"""Float32 factors on bfloat16 weights: what trains is not rounded away, in any method."""

import copy

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig
from transformers import LlamaForSequenceClassification as Llama

from allora_lab import METHODS, inject_adapters
from allora_lab.adapters.inject import adapted_layers, own_tensors
from allora_lab.adapters.precision import keep_trained_in_float32

SIZES = {"vocab_size": 32, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
IDS = torch.arange(20).view(4, 5)
LABELS = torch.tensor([0, 1, 1, 0])


def bert():
    torch.manual_seed(0)
    sizes = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(**SIZES, **sizes, intermediate_size=36, pad_token_id=0)
    return BertForSequenceClassification(config)


def adapted(method, dtype, lora_dropout=0.0):
    model = inject_adapters(
        bert().to(dtype), method, r=4, generator=torch.Generator().manual_seed(1)
    )
    for layer in adapted_layers(model).values():
        with torch.no_grad():
            layer.lora_B.normal_(std=0.1, generator=torch.Generator().manual_seed(2))
    return keep_trained_in_float32(model).eval()


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_float32_and_near_those_of_a_model_in_float32(method):
    narrow, wide = adapted(method, torch.bfloat16), adapted(method, torch.float32)
    wide.load_state_dict(narrow.state_dict())  # the same rounded weights, computed with exactly
    for model in (narrow, wide):
        output = model(input_ids=IDS, labels=LABELS)
        output.loss.backward()
        assert output.logits.dtype == torch.float32
    own = own_tensors(narrow)
    for name, parameter in narrow.named_parameters():
        if name not in own:
            assert parameter.dtype == torch.bfloat16
            continue
        exact = wide.get_parameter(name)
        assert parameter.dtype == torch.float32
        if exact.grad is None:  # a gate that another part steps, or a factor that stays
            continue
        assert parameter.grad.dtype == torch.float32
        scale = exact.grad.abs().max().item()
        torch.testing.assert_close(parameter.grad, exact.grad, rtol=0.1, atol=0.1 * scale + 1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_norms_and_merged_weights_are_those_of_the_float32_factors(method):
    narrow, wide = adapted(method, torch.bfloat16), adapted(method, torch.float32)
    wide.load_state_dict(narrow.state_dict())
    for name, layer in adapted_layers(narrow).items():
        exact = wide.get_submodule(name)
        torch.testing.assert_close(layer.row_norms(), exact.row_norms())
        if layer.is_mergeable:
            merged = layer.merged_weight().float()
            torch.testing.assert_close(merged, exact.merged_weight(), rtol=0.01, atol=0.01)


def test_a_step_too_small_for_bfloat16_is_kept():
    model = adapted("lora", torch.bfloat16)
    factor = adapted_layers(model).popitem()[1].lora_B
    factor.data = factor.data.bfloat16().float()
    before = factor.detach().clone()
    optimizer = torch.optim.SGD([factor], lr=1.0)
    factor.grad = before * 2**-12
    optimizer.step()
    assert not torch.equal(factor, before)
    assert torch.equal(factor.bfloat16(), before.bfloat16())  # which there would be no step at all


@pytest.mark.parametrize("method", METHODS)
def test_a_model_in_float32_stays_as_it_is(method):
    model = inject_adapters(bert(), method, r=4)
    before = copy.deepcopy(model.state_dict())
    hooks = sum(len(m._forward_pre_hooks) for m in model.modules())
    keep_trained_in_float32(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert sum(len(m._forward_pre_hooks) for m in model.modules()) == hooks


def test_a_dora_layer_on_bfloat16_starts_as_the_pretrained_one():
    plain = bert().bfloat16().eval()
    model = keep_trained_in_float32(inject_adapters(copy.deepcopy(plain), "dora", r=4)).eval()
    hidden = plain.bert(input_ids=IDS).last_hidden_state
    found = model.bert(input_ids=IDS).last_hidden_state
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, hidden, rtol=0.05, atol=0.05)


def test_a_decoders_head_computes_in_float32_too():
    torch.manual_seed(0)
    model = Llama(LlamaConfig(**SIZES, intermediate_size=36, pad_token_id=0)).bfloat16()
    keep_trained_in_float32(inject_adapters(model, "allora", r=4, target_modules="all-linear"))
    output = model(input_ids=IDS, labels=LABELS)
    output.loss.backward()
    assert output.logits.dtype == model.score.weight.grad.dtype == torch.float32
