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
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from allora_lab import (
    adapter_state_dict,
    export_peft,
    inject_adapters,
    load_adapter_state_dict,
    load_model,
    load_peft,
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
    with pytest.raises(ValueError, match="choose from dense, key, query"):
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


def llama(**changes):
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 2}
    return LlamaForCausalLM(
        LlamaConfig(**{**sizes, "num_hidden_layers": 2, "vocab_size": 50, **changes})
    ).eval()


IDS = torch.arange(5, 12)[None]


def test_a_name_that_matches_nothing_is_told_with_the_nearest():
    with pytest.raises(ValueError, match=r"'k_prj'.*'k_proj'"):
        inject_adapters(llama(), "lora", target_modules=("q_proj", "k_prj"))
    with pytest.raises(ValueError, match="twice"):
        inject_adapters(llama(), "lora", target_modules=("q_proj", "v_proj", "q_proj"))
    for wrong in ((), ("",)):
        with pytest.raises(ValueError, match="target_modules"):
            inject_adapters(llama(), "lora", target_modules=wrong)


@pytest.mark.parametrize("is_tied", [True, False])
def test_the_output_layer_is_suggested_only_where_it_is_not_tied(is_tied):
    with pytest.raises(ValueError, match="choose from") as caught:
        inject_adapters(llama(tie_word_embeddings=is_tied), "lora", target_modules=("zzz",))
    assert ("lm_head" in str(caught.value)) != is_tied


def neox():
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 2}
    return GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, num_hidden_layers=1, vocab_size=50))


DEFAULTS = {
    "llama": (llama, {"q_proj", "v_proj"}),
    "gpt2": (DECODERS["gpt2"][0], {"c_attn"}),
    "distilbert": (lambda: HEADED["distilbert"](), {"q_lin", "v_lin"}),
    "bart": (lambda: HEADED["bart"](), {"q_proj", "v_proj"}),
    "neox": (neox, {"query_key_value"}),
    "minilm": (lambda: load_model("minilm").model, {"query", "value"}),
}


@pytest.mark.parametrize("family", DEFAULTS)
def test_default_targets_fit_the_family_as_in_peft(family):
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    build, names = DEFAULTS[family]
    model = inject_adapters(build(), "lora", r=2)
    assert {name.rpartition(".")[2] for name in adapted_layers(model)} == names
    theirs = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    assert names == set(theirs.get(model.config.model_type, names))


def test_a_family_without_a_default_is_told_of():
    with pytest.raises(ValueError, match=r"no default target_modules.*odd"):
        inject_adapters(nn.ModuleDict({"odd": nn.Linear(8, 8)}), "lora", r=2)


def trained_head(**changes):
    """Return a model with a trained LoRA on its output layer, and its logits."""
    model = inject_adapters(llama(**changes), "lora", r=4, target_modules=("lm_head", "q_proj"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for _ in range(4):
        optimizer.zero_grad()
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
    assert model.lm_head.lora_B.abs().max() > 0.01
    return model, model(input_ids=IDS).logits.detach()


def test_merging_into_a_tied_output_layer_is_refused_or_unties_it(tmp_path):
    model, before = trained_head(tie_word_embeddings=True)
    embeddings = model.get_input_embeddings().weight.detach().clone()
    with pytest.raises(ValueError, match="untie=True"):
        merge_adapters(model)
    torch.testing.assert_close(model(input_ids=IDS).logits, before, rtol=0, atol=0)
    merge_adapters(model, untie=True)
    assert torch.equal(model.get_input_embeddings().weight, embeddings)
    torch.testing.assert_close(model(input_ids=IDS).logits, before, rtol=1e-4, atol=1e-5)
    model.save_pretrained(tmp_path)
    back = LlamaForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(back(input_ids=IDS).logits, before, rtol=1e-4, atol=1e-5)


def test_an_adapter_on_a_tied_output_layer_comes_back_as_it_was(tmp_path):
    model, before = trained_head(tie_word_embeddings=True)
    export_peft(model, tmp_path)
    back = load_peft(llama(tie_word_embeddings=True), tmp_path)
    assert torch.equal(back(input_ids=IDS).logits, before)


def test_untying_leaves_a_model_that_is_not_tied_as_it_is():
    model, before = trained_head(tie_word_embeddings=False)
    weight = model.lm_head.base_layer.weight
    merge_adapters(model, untie=True)
    assert model.lm_head.weight is weight
    torch.testing.assert_close(model(input_ids=IDS).logits, before, rtol=1e-4, atol=1e-5)


def test_two_adapted_layers_of_one_weight_are_not_merged_into_it():
    model = nn.ModuleDict({n: nn.Linear(8, 8) for n in ("query", "value")})
    model["value"].weight = model["query"].weight
    inject_adapters(model, "lora", r=2)
    with pytest.raises(ValueError, match="query shares its weight with value"):
        merge_adapters(model)
    assert len(adapted_layers(model)) == 2
    assert len(adapted_layers(merge_adapters(model, untie=True))) == 0


def test_an_unmerged_model_is_not_saved_under_names_that_nothing_loads(tmp_path):
    model = inject_adapters(llama(), "lora", r=4)
    for part in (model, model.model):
        with pytest.raises(ValueError, match=r"merge_adapters.*export_peft"):
            part.save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []
    randomise(model)
    before = model(input_ids=IDS).logits
    merge_adapters(model).save_pretrained(tmp_path)
    back = LlamaForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(back(input_ids=IDS).logits, before, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # transformers' own, of how the new rows start
def test_token_embeddings_resized_after_injection_are_not_lost_unsaid(tmp_path):
    model = inject_adapters(llama(), "lora", r=4)
    model.resize_token_embeddings(53)
    with pytest.raises(ValueError, match="53 rows and had 50"):
        export_peft(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    first = llama()
    first.resize_token_embeddings(53)
    export_peft(inject_adapters(first, "lora", r=4), tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_adapters_are_float32_unless_asked_otherwise(dtype):
    model = inject_adapters(llama().to(dtype), "lora", r=4)
    kinds = {
        p.dtype for layer in adapted_layers(model).values() for p in (layer.lora_A, layer.lora_B)
    }
    assert kinds == {torch.float32}
    assert model.lm_head.weight.dtype == dtype
    narrow = inject_adapters(llama().to(dtype), "lora", r=4, dtype=dtype)
    assert {p.dtype for p in narrow.parameters()} == {dtype}
    with pytest.raises(ValueError, match="dtype"):
        inject_adapters(llama(), "lora", dtype=torch.int8)


def test_small_steps_on_a_float16_model_are_taken_and_stay_finite():
    model = inject_adapters(llama().half(), "lora", r=4)
    trained = [p for p in model.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in trained]
    optimizer = torch.optim.AdamW(trained, lr=5e-5, weight_decay=0.0)
    for _ in range(4):
        optimizer.zero_grad()
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
    assert all(torch.isfinite(p).all() for p in trained)
    moved = [(p - s).abs().mean() for p, s in zip(trained, start, strict=True)]
    assert min(moved) > 5e-5  # an Adam step is about lr, three or four of them
