import pytest
import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from allora_lab import (
    adapter_state_dict,
    inject_adapters,
    load_adapter_state_dict,
    load_model,
    merge_adapters,
)
from allora_lab.adapters.inject import adapted_layers

DECODERS = {
    "gpt2": (
        lambda: GPT2LMHeadModel(GPT2Config(n_embd=24, n_layer=2, n_head=2, vocab_size=50)),
        ("c_attn", "c_fc"),
    ),
    "llama": (
        lambda: LlamaForCausalLM(
            LlamaConfig(
                hidden_size=24,
                intermediate_size=40,
                num_hidden_layers=2,
                num_attention_heads=2,
                vocab_size=50,
            )
        ),
        ("q_proj", "down_proj"),
    ),
}


@pytest.fixture
def minilm():
    return load_model("minilm").model


def randomise(model):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in adapted_layers(model).values():
            layer.lora_B.normal_(std=0.2, generator=generator)


def test_base_is_frozen_and_adapters_and_head_train(minilm):
    inject_adapters(minilm, "allora")
    trainable = {name for name, p in minilm.named_parameters() if p.requires_grad}
    factors = {n for n in trainable if n.endswith(("lora_A", "lora_B"))}
    assert trainable - factors == {"classifier.weight", "classifier.bias"}
    assert len(factors) == 2 * 2 * 6


def test_merging_leaves_the_real_models_logits_as_they_were(minilm):
    inject_adapters(minilm, "allora", target_modules="all-linear")
    randomise(minilm)
    minilm.eval()
    ids = torch.arange(2000, 2020)[None]
    before = minilm(input_ids=ids).logits
    merge_adapters(minilm)
    assert not adapted_layers(minilm)
    torch.testing.assert_close(minilm(input_ids=ids).logits, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_are_adapted_and_merged_alike(name):
    build, targets = DECODERS[name]
    torch.manual_seed(0)
    model = build().eval()
    ids = torch.arange(5, 12)[None]
    start = model(input_ids=ids).logits
    inject_adapters(model, "allora", r=4, target_modules=targets)
    assert len(adapted_layers(model)) == 4
    torch.testing.assert_close(model(input_ids=ids).logits, start)
    randomise(model)
    moved = model(input_ids=ids).logits
    assert (moved - start).abs().max() > 1e-3
    merge_adapters(model)
    torch.testing.assert_close(model(input_ids=ids).logits, moved, rtol=1e-4, atol=1e-5)


def test_state_goes_out_and_comes_back(minilm):
    inject_adapters(minilm, "dora")
    randomise(minilm)
    state = adapter_state_dict(minilm)
    other = inject_adapters(load_model("minilm", seed=5).model, "dora")
    load_adapter_state_dict(other, state)
    ids = torch.arange(2000, 2020)[None]
    assert torch.equal(other.eval()(input_ids=ids).logits, minilm.eval()(input_ids=ids).logits)


def test_state_that_does_not_fit_writes_nothing(minilm):
    inject_adapters(minilm, "lora", r=4)
    before = adapter_state_dict(minilm)
    wrong = {name: tensor + 1 for name, tensor in before.items()}
    wrong["classifier.weight"] = torch.zeros(7, 384)
    for state in (wrong, dict(list(wrong.items())[:-1])):
        with pytest.raises(ValueError, match="do not fit the model"):
            load_adapter_state_dict(minilm, state)
    assert all(torch.equal(before[n], t) for n, t in adapter_state_dict(minilm).items())


def test_targets_that_match_nothing_are_refused_with_the_choices(minilm):
    with pytest.raises(ValueError, match="match no linear layer: choose from dense, key, query"):
        inject_adapters(minilm, "lora", target_modules=("q_proj",))


def test_the_head_is_never_a_target(minilm):
    inject_adapters(minilm, "lora", target_modules="all-linear")
    assert not any(name.startswith("classifier") for name in adapted_layers(minilm))


def test_an_adapted_model_is_refused_and_a_plain_one_cannot_be_merged(minilm):
    with pytest.raises(ValueError, match="no adapters"):
        merge_adapters(minilm)
    inject_adapters(minilm, "lora")
    with pytest.raises(ValueError, match="already has adapters"):
        inject_adapters(minilm, "lora")


def test_a_rank_too_large_for_one_target_leaves_the_model_untouched():
    model = nn.ModuleDict({"query": nn.Linear(30, 30), "value": nn.Linear(30, 5)})
    before = list(model.values())
    with pytest.raises(ValueError, match="at most 5 for the layer value"):
        inject_adapters(model, "lora", r=6)
    assert list(model.values()) == before
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "alora"}, "write 'allora' for the adaptive learning rate"),
        ({"method": "allorra"}, "did you mean 'allora'"),
        ({"method": "allora", "lora_alpha": 16}, "does not use lora_alpha"),
        ({"method": "lora", "lora_alpha": -1}, "lora_alpha must be a finite number above 0"),
        ({"method": "lora", "lora_dropout": 1.0}, "lora_dropout must be at least 0 and below 1"),
        ({"method": "allora", "eta_squared": 0.0}, "eta_squared must be a finite number above 0"),
        ({"method": "lora", "r": 0}, "r must be at least 1"),
    ],
)
def test_bad_settings_are_one_clear_sentence(changes, message):
    model = nn.ModuleDict({"query": nn.Linear(30, 30)})
    with pytest.raises(ValueError, match=message) as caught:
        inject_adapters(model, **changes)
    assert "\n" not in str(caught.value)
    assert type(model["query"]) is nn.Linear


HEADED = {
    "bart": lambda: BartForSequenceClassification(
        BartConfig(
            vocab_size=30,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=24,
            decoder_ffn_dim=24,
        )
    ),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=30, dim=16, n_layers=1, n_heads=2, hidden_dim=24)
    ),
}


@pytest.mark.parametrize("name", HEADED)
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_the_whole_new_head_trains_and_is_not_adapted_in_every_family(name, is_wrapped):
    model = HEADED[name]()
    body = {id(p) for p in model.base_model.parameters()}
    head = {n for n, p in model.named_parameters() if id(p) not in body}
    wrapped = nn.ModuleDict({"module": model}) if is_wrapped else model
    inject_adapters(wrapped, "lora", r=2, target_modules="all-linear")
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    assert head == {n for n in trainable if "lora_" not in n}


@pytest.mark.parametrize("is_training", [False, True])
def test_adapters_are_in_the_mode_the_model_is_in(minilm, is_training):
    minilm.train(is_training)
    inject_adapters(minilm, "allora-dropout")
    assert all(m.training == is_training for m in minilm.modules())


def test_a_bare_layer_and_a_broken_expression_are_refused():
    with pytest.raises(ValueError, match="match no linear layer"):
        inject_adapters(nn.Linear(8, 8), "lora", r=2, target_modules=".*")
    with pytest.raises(ValueError, match="is not a regular expression"):
        inject_adapters(nn.Sequential(nn.Linear(8, 8)), "lora", r=2, target_modules="(0")
