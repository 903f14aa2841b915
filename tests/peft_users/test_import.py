"""PEFT's files read into our layers, and back: tensors bit for bit, outputs to 1e-6."""

import copy
import json

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import SGD
from transformers import BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from allora_lab import export_peft, inject_adapters, load_peft
from allora_lab.adapters.allora import ALLoRALinear
from allora_lab.adapters.dora import DoRALinear
from allora_lab.adapters.inject import adapted_layers
from allora_lab.adapters.lora import LoRALinear
from allora_lab.adapters.targets import pattern_values
from allora_lab.adapters.update_layer import ALLoRAUpdateLinear
from allora_lab.peft import load_adapter, use_allora, wrap_update
from allora_lab.sidecar import read_sidecar
from tests.peft_users.models import (
    FAMILIES,
    R,
    base_model,
    fill,
    fresh,
    logits,
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
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
UNEVEN = {
    "bert": ({"query": 2, r"layer\.1\.output\.dense": 3}, {"value": 7, "output.dense": 5}),
    "llama": ({"v_proj": 2, r"layers\.1\.mlp\.down_proj": 3}, {"q_proj": 7, "v_proj": 9}),
    "gpt2": ({"c_fc": 2, r"h\.1\.attn\.c_attn": 3}, {"c_fc": 7}),
}
KINDS = {
    "lora": {"lora_alpha": 7},
    "rslora": {"lora_alpha": 7, "use_rslora": True},
    "dora": {"lora_alpha": 7, "use_dora": True},
    "uneven": {"lora_alpha": 7},
    "uneven rslora": {"lora_alpha": 7, "use_rslora": True},
}


def saved(family, kind, folder, *, steps_taken=3):
    """Train an adapter with PEFT, save it, and return the model."""
    settings = dict(KINDS.get(kind, {}))
    if kind.startswith("uneven"):
        settings |= dict(zip(("rank_pattern", "alpha_pattern"), UNEVEN[family], strict=True))
    config = lora_config(family, **settings)
    torch.manual_seed(1)
    model = peft.get_peft_model(
        base_model(family), use_allora(config, eta_squared=9.0) if kind == "allora" else config
    )
    fill(model)
    steps(model, SGD(trainable(model), lr=0.2), steps_taken)
    model.save_pretrained(folder)
    return model


def rewrite(folder, **changes):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **changes}))


def tensors_of(folder):
    return load_file(folder / WEIGHTS)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", [*KINDS, "allora"])
def test_what_peft_saved_computes_the_same_here_and_goes_back_bit_for_bit(family, kind, tmp_path):
    theirs = saved(family, kind, tmp_path / "in")
    ours = load_peft(fresh(base_model(family)), tmp_path / "in")
    assert (logits(ours) - logits(theirs)).abs().max() < 1e-6
    assert (logits(ours) - logits(base_model(family))).abs().max() > 1e-3
    wanted = {"dora": DoRALinear, "allora": ALLoRALinear}.get(kind, LoRALinear)
    assert {type(m) for m in adapted_layers(ours).values()} == {wanted}
    export_peft(ours, tmp_path / "out")
    before, after = tensors_of(tmp_path / "in"), tensors_of(tmp_path / "out")
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        assert torch.equal(tensor, after[key]), key
    again = peft.PeftModel.from_pretrained(fresh(base_model(family)), tmp_path / "out")
    assert (logits(again) - logits(theirs)).abs().max() < 1e-6
    assert read_sidecar(tmp_path / "out") == read_sidecar(tmp_path / "in")


@pytest.mark.parametrize("kind", ["lora", "dora", "allora", "uneven rslora"])
def test_it_trains_on_as_it_would_have_in_peft(kind, tmp_path):
    theirs = saved("llama", kind, tmp_path)
    ours = load_peft(base_model("llama"), tmp_path)
    start = [mine.detach().clone() for mine, _ in pairs(ours, theirs)]
    assert len(trainable(ours)) == len(trainable(theirs))
    steps(theirs, SGD(trainable(theirs), lr=0.2))
    steps(ours, SGD(trainable(ours), lr=0.2))
    for (mine, other), before in zip(pairs(ours, theirs), start, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
        assert not torch.equal(mine, before)


@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "allora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_we_export_comes_back_as_it_was(family, method, tmp_path):
    ours = base_model(family)
    alpha = {} if method == "allora" else {"lora_alpha": 7}
    inject_adapters(ours, method, r=R, target_modules=FAMILIES[family][1], eta_squared=2.0, **alpha)
    steps(ours, SGD(trainable(ours), lr=0.2))
    export_peft(ours, tmp_path)
    back = load_peft(fresh(base_model(family)), tmp_path)
    assert (logits(back) - logits(ours)).abs().max() < 1e-6
    for name, layer in adapted_layers(ours).items():
        twin = adapted_layers(back)[name]
        for key, parameter in layer.named_parameters():
            assert torch.equal(parameter, twin.get_parameter(key))
        if method == "allora":
            assert twin.eta_squared == 2.0
    assert [n for n, p in back.named_parameters() if p.requires_grad] == [
        n for n, p in ours.named_parameters() if p.requires_grad
    ]


def test_an_exported_allora_trains_on_in_peft_as_it_does_here(tmp_path):
    ours = base_model("llama")
    targets = FAMILIES["llama"][1]
    inject_adapters(ours, "allora", r=R, target_modules=targets, eta_squared=9.0)
    steps(ours, SGD(trainable(ours), lr=0.2))
    export_peft(ours, tmp_path)
    theirs = load_adapter(base_model("llama"), tmp_path)
    steps(ours, SGD(trainable(ours), lr=0.2))
    steps(theirs, SGD(trainable(theirs), lr=0.2))
    for mine, other in pairs(ours, theirs):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_another_method_exported_to_the_same_folder_leaves_no_sidecar(tmp_path):
    for method, is_there in (("allora", True), ("lora", False)):
        model = base_model("llama")
        inject_adapters(model, method, r=R, target_modules=["q_proj"])
        export_peft(model, tmp_path)
        assert (tmp_path / "allora.json").exists() == is_there


def test_dropout_and_training_mode_are_kept(tmp_path):
    torch.manual_seed(1)
    peft.get_peft_model(
        base_model("llama"), lora_config("llama", lora_dropout=0.25)
    ).save_pretrained(tmp_path)
    for is_training in (True, False):
        model = load_peft(base_model("llama").train(is_training), tmp_path)
        for layer in adapted_layers(model).values():
            assert layer.dropout.p == 0.25
            assert layer.dropout.training == is_training


def test_the_update_form_gives_lora_layers_with_the_scale_of_allora(tmp_path):
    model = fill(peft_model("llama"))
    wrap_update(SGD(trainable(model), lr=0.1), model)
    model.save_pretrained(tmp_path)
    ours = load_peft(base_model("llama"), tmp_path)
    assert {type(m) for m in adapted_layers(ours).values()} == {ALLoRAUpdateLinear}
    assert (logits(ours) - logits(model)).abs().max() < 1e-6


def test_patterns_match_as_in_peft():
    from peft.utils.other import get_pattern_key

    names = ["q_proj", "model.layers.1.q_proj", "model.layers.11.q_proj", "my_q_proj", "q_proj.x"]
    patterns = ({"q_proj": 1}, {r"1\.q_proj": 1, "q_proj": 2}, {"^q_proj": 1}, {r"layers\..*": 1})
    for pattern in patterns:
        theirs = {n: pattern.get(get_pattern_key(pattern.keys(), n), 9) for n in names}
        assert pattern_values("rank_pattern", pattern, names, 9) == theirs


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    saved("bert", "lora", folder)
    rewrite(folder, base_model_name_or_path="org/the-other-base")
    return folder


@pytest.fixture
def folder(original, tmp_path):
    for path in original.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def change_tensors(folder, change):
    tensors = change(tensors_of(folder))
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, folder / WEIGHTS)


def without(part):
    return lambda tensors: {k: v for k, v in tensors.items() if part not in k}


def bert_of(**sizes):
    config = copy.deepcopy(base_model("bert").config)
    for name, value in sizes.items():
        setattr(config, name, value)
    return BertForSequenceClassification(config)


def tiny_llama():
    sizes = {"hidden_size": 24, "intermediate_size": 36, "num_attention_heads": 3}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=2, vocab_size=12))


WRONG_MODELS = {
    "another family": (tiny_llama, "no linear layer of this model: .* for org/the-other-base"),
    "fewer blocks": (lambda: bert_of(num_hidden_layers=1), r"layer\.1.* is no linear layer"),
    "another width": (
        lambda: bert_of(hidden_size=48, intermediate_size=36),
        "is for a 24 x 24 layer, and this model's is 48 x 48: .* for org/the-other-base",
    ),
    "another input": (
        lambda: bert_of(intermediate_size=48),
        r"output\.dense is for a 24 x 36 layer, and this model's is 24 x 48",
    ),
    "other classes": (lambda: bert_of(num_labels=5), r"head classifier\.\w+ is .* as many classes"),
}


@pytest.mark.parametrize("case", WRONG_MODELS)
def test_an_adapter_of_another_base_model_is_refused_and_the_model_left_alone(case, folder):
    build, words = WRONG_MODELS[case]
    model = build()
    before = copy.deepcopy(model.state_dict())
    trained = [p.requires_grad for p in model.parameters()]
    with pytest.raises(ValueError, match=words) as error:
        load_peft(model, folder)
    assert "\n" not in str(error.value)
    assert not adapted_layers(model)
    assert [p.requires_grad for p in model.parameters()] == trained
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


WRONG_CONFIGS = {
    "VeRA": ({"peft_type": "VERA"}, "type VERA, and only LORA"),
    "aLoRA": ({"alora_invocation_tokens": [1]}, "made with alora_invocation_tokens"),
    "lora_bias": ({"lora_bias": True}, "made with lora_bias"),
    "replication": ({"layer_replication": [[0, 2]]}, "made with layer_replication"),
    "tokens": ({"trainable_token_indices": [1]}, "made with trainable_token_indices"),
    "PiSSA": ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4', which"),
    "biases": ({"bias": "all"}, "bias='all'"),
    "rank": ({"rank_pattern": {"query": 2}}, "has rank 4, and adapter_config.json says 2"),
    "DoRA": ({"use_dora": True}, "expected lora_A, lora_B, lora_magnitude_vector"),
}


@pytest.mark.parametrize("case", WRONG_CONFIGS)
def test_a_variant_that_is_not_read_here_is_refused_by_name(case, folder):
    changes, words = WRONG_CONFIGS[case]
    rewrite(folder, **changes)
    model = base_model("bert")
    with pytest.raises(ValueError, match=words):
        load_peft(model, folder)
    assert not adapted_layers(model)


WRONG_FIELDS = [
    *[
        ("lora_alpha", v)
        for v in (None, "x", [1], 0, -1, float("nan"), float("inf"), True, 10**400)
    ],
    *[("r", v) for v in (None, "4", 0, -1, 2.5, [4], 10**30)],
    *[("rank_pattern", v) for v in ("x", 3, [1], {"query": "2"}, {"query": 0}, {"(((": 4})],
    *[("alpha_pattern", v) for v in ("x", {".*": None}, {"query": float("nan")})],
    *[("lora_dropout", v) for v in ("x", {}, -0.1, 1.0, float("nan"))],
    *[("use_rslora", v) for v in ("x", 1, {})],
    *[("use_dora", v) for v in ("x", 0, [])],
    *[("target_modules", v) for v in (3, [1], "", {"a": 1}, "(0", [""])],
    *[("modules_to_save", v) for v in (3, "x", [1])],
    *[("init_lora_weights", v) for v in (3, [], {})],
    *[("bias", v) for v in (3, None, [], "x")],
    *[("base_model_name_or_path", v) for v in (3, [], {})],
    *[("peft_type", v) for v in (None, 3, [], {})],
]


@pytest.mark.parametrize(("field", "value"), WRONG_FIELDS, ids=lambda v: str(v)[:20])
def test_a_field_of_a_wrong_type_or_range_is_named(field, value, folder):
    rewrite(folder, **{field: value})
    model = base_model("bert")
    words = "type" if field == "peft_type" else field
    with pytest.raises(ValueError, match=words) as error:
        load_peft(model, folder)
    assert "\n" not in str(error.value)
    assert not adapted_layers(model)


@pytest.mark.parametrize("name", [CONFIG, "allora.json"])
def test_a_file_that_is_nested_too_deep_or_no_text_is_refused(name, folder):
    for data in (
        b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b"[" * 100_000,
        b"\xff\xfe{}",
        b"",
    ):
        (folder / name).write_bytes(data)
        with pytest.raises(ValueError, match=name) as error:
            load_peft(base_model("bert"), folder)
        assert "\n" not in str(error.value)


@pytest.mark.timeout(60)
def test_a_pattern_on_which_re_hangs_does_not_hang(folder):
    for pattern in ({"(.*)*x$": 4}, {r"((\w+)*\.?)*!": 4}):
        rewrite(folder, rank_pattern=pattern, alpha_pattern=pattern)
        load_peft(base_model("bert"), folder)


BROKEN = {
    "half a pair": (without("query.lora_B"), "has lora_A of the layer .*query, expected lora_A, l"),
    "no pairs": (without("lora_"), "holds no lora_A and lora_B"),
    "something else": (
        lambda tensors: {**tensors, "base_model.model.bert.pooler.dense.weight": torch.zeros(2)},
        r"holds bert\.pooler\.dense\.weight, which is neither",
    ),
    "a magnitude": (
        lambda t: {**t, **{k.replace("A.weight", "magnitude_vector"): v[0] for k, v in t.items()
                           if k.endswith("lora_A.weight")}},
        "has lora_A, lora_B, lora_magnitude_vector of the layer",
    ),
    "no dimension": (lambda t: {k: v.sum() if "lora_A" in k else v for k, v in t.items()}, "0 dim"),
    "one dimension": (lambda t: {k: v[0] if "lora_A" in k else v for k, v in t.items()}, "1 dim"),
    "three": (lambda t: {k: v[None] if "lora_B" in k else v for k, v in t.items()}, "3 dimensions"),
    "integers": (lambda t: {k: v.int() for k, v in t.items()}, "int32"),
    "truth values": (lambda t: {k: v.bool() for k, v in t.items()}, "bool"),
    "not a number": (lambda t: {k: v * float("nan") for k, v in t.items()}, "finite"),
    "infinite": (lambda t: {k: v + float("inf") for k, v in t.items()}, "finite"),
    "ranks of A and B": (
        lambda t: {k: v[:2] if "lora_A" in k else v for k, v in t.items()},
        "is for a 24 x 24 layer, and this model's is 24 x 24|rank",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_tensors_are_refused(case, folder):
    change, words = BROKEN[case]
    change_tensors(folder, change)
    with pytest.raises(ValueError, match=words):
        load_peft(base_model("bert"), folder)


def test_broken_missing_and_pickled_files_are_refused(folder):
    model = base_model("bert")
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged or cut short"):
        load_peft(model, folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=r"has no adapter_model\.safetensors"):
        load_peft(model, folder)
    torch.save({}, folder / "adapter_model.bin")
    with pytest.raises(ValueError, match="a pickle, which can run code"):
        load_peft(model, folder)
    (folder / WEIGHTS).write_bytes(whole)
    (folder / CONFIG).write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_peft(model, folder)
    (folder / CONFIG).write_text("[]")
    with pytest.raises(ValueError, match="JSON object"):
        load_peft(model, folder)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        load_peft(model, folder / "nowhere")
    assert not adapted_layers(model)


def test_a_sidecar_left_over_from_another_adapter_is_refused(folder):
    (folder / "allora.json").write_text('{"method": "allora", "eta_squared": 4.0}')
    with pytest.raises(ValueError, match=r"whose scaling is 1, .* says 1\.75 for .*remove"):
        load_peft(base_model("bert"), folder)
    (folder / "allora.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        load_peft(base_model("bert"), folder)


def test_an_adapted_model_is_refused(folder):
    model = load_peft(base_model("bert"), folder)
    with pytest.raises(ValueError, match="already has adapters"):
        load_peft(model, folder)


def test_adapters_on_a_bfloat16_model_are_not_rounded(folder):
    model = load_peft(base_model("bert").bfloat16(), folder)
    exact = load_peft(base_model("bert"), folder)
    for name, layer in adapted_layers(model).items():
        assert layer.base_layer.weight.dtype == torch.bfloat16
        assert torch.equal(layer.lora_A, adapted_layers(exact)[name].lora_A)
        assert torch.equal(layer.lora_B, adapted_layers(exact)[name].lora_B)
    assert torch.equal(model.classifier.weight, exact.classifier.weight)
    assert nn.functional.cosine_similarity(logits(model).float(), logits(exact)).min() > 0.999
    loss_of(model).backward()
