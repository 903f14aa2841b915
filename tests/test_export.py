"""What export_peft writes is loaded by plain PEFT, and the model computes the same."""

import copy
import json

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
)

from allora_lab import METHODS, export_peft, inject_adapters
from allora_lab.adapters.allora_update import wrap_optimizer
from allora_lab.adapters.dora import DoRALinear
from allora_lab.adapters.gated import GatedLinear
from allora_lab.adapters.inject import adapted_layers
from allora_lab.adapters.update_layer import ALLoRAUpdateLinear
from allora_lab.allocation.resize import resize_ranks

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"  # PEFT's own
)

R, ALPHA = 4, 6.0
WORDS = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 0]])
KEEP = ([0, 2, 3], [], [0, 1, 2, 3], [1])  # by turns, and so many are added:
ADDED = (0, 0, 2, 0)


def bert(blocks=2):
    sizes = {"hidden_size": 24, "intermediate_size": 36, "num_attention_heads": 3}
    return BertForSequenceClassification(
        BertConfig(vocab_size=12, num_hidden_layers=blocks, num_labels=3, pad_token_id=0, **sizes)
    )


def gpt2(kind=GPT2ForSequenceClassification):
    sizes = {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 8, "vocab_size": 12}
    return kind(GPT2Config(**sizes, num_labels=3, pad_token_id=0, bos_token_id=1, eos_token_id=1))


FAMILIES = {
    "bert": (bert, ["query", "key", "value", "output.dense", "intermediate.dense"]),
    "gpt2": (gpt2, ["c_attn", "c_proj", "c_fc"]),
    "gpt2-words": (lambda: gpt2(GPT2LMHeadModel), ["c_attn", "c_proj", "c_fc"]),
}
GATED = ("alora-ablation", "alora-dnas", "alora-sensitivity", "sora", "adalora")


def built(family, method, **settings):
    """Return a model adapted by a method, and an untouched one with the same pretrained weights."""
    build, targets = FAMILIES[family]
    torch.manual_seed(0)
    model = build().eval()
    base = copy.deepcopy(model)
    for head in (getattr(base, n) for n in ("classifier", "score") if hasattr(base, n)):
        nn.init.normal_(head.weight)  # whoever loads the model has another new head
    if METHODS[method].reads_lora_alpha:
        settings = {"lora_alpha": ALPHA, **settings}
    generator = torch.Generator().manual_seed(1)
    inject_adapters(
        model, method, r=R, target_modules=settings.pop("targets", targets), generator=generator,
        **settings,
    )  # fmt: skip
    return model, base


def train(model, steps=6):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    if any(isinstance(m, ALLoRAUpdateLinear) for m in model.modules()):
        optimizer = wrap_optimizer(optimizer, model)
    for _ in range(steps):
        logits = model(WORDS).logits
        labels = torch.tensor([0, 2]) if logits.dim() == 2 else WORDS
        loss = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()


def uneven(model):
    """Train, give the layers uneven ranks, one in four none at all, and train on."""
    train(model)
    layers = adapted_layers(model)
    keep = {name: KEEP[i % 4] for i, name in enumerate(layers)}
    added = {name: ADDED[i % 4] for i, name in enumerate(layers)}
    generator = torch.Generator().manual_seed(2)
    resize_ranks(layers, keep, added, generator=generator)
    train(model)


@torch.no_grad()
def require_same(model, base, folder):
    """Check that PEFT's model, and what it merges to, computes what ours does."""
    expected = model.eval()(WORDS).logits
    assert not torch.allclose(expected, base(WORDS).logits, atol=1e-2)
    loaded = peft.PeftModel.from_pretrained(base, folder).eval()
    assert (loaded(WORDS).logits - expected).abs().max() < 1e-6
    adapted = {n for n, m in base.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)}
    merged = loaded.merge_and_unload()
    assert (merged(WORDS).logits - expected).abs().max() < 1e-6
    return adapted


def ranks_on_disk(folder):
    tensors = load_file(folder / "adapter_model.safetensors")
    ranks = {}
    for key, A in tensors.items():
        if key.endswith(".lora_A.weight"):
            name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            ranks[name] = len(A)
            assert tensors[key.replace("lora_A", "lora_B")].shape[1] == len(A)
    return ranks


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", GATED)
def test_uneven_ranks_come_back_in_peft(method, family, tmp_path):
    model, base = built(family, method)
    uneven(model)
    layers = adapted_layers(model)
    assert {layer.r for layer in layers.values()} == {0, 1, 3, 6}
    with torch.no_grad():
        for layer in layers.values():  # a gate that is closed without having left the tensors
            if method == "sora" and layer.r == 3:
                layer.lora_gate[1] = 0
            if method == "adalora" and layer.r == 3:
                layer.lora_E[1] = 0
    before = {name: p.clone() for name, p in model.named_parameters()}
    export_peft(model, tmp_path)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    open_gates = {n: int((m.gates() != 0).sum()) for n, m in layers.items()}
    assert (2 in open_gates.values()) == (method in ("sora", "adalora"))
    present = {n: r for n, r in open_gates.items() if r}
    assert ranks_on_disk(tmp_path) == present
    assert require_same(model, base, tmp_path) == present.keys()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_comes_back_too_or_is_refused(method, family, tmp_path):
    model, base = built(family, method)
    train(model)
    plain = {m.is_plain_lora or isinstance(m, DoRALinear) for m in adapted_layers(model).values()}
    if plain == {True}:
        export_peft(model, tmp_path)
        require_same(model, base, tmp_path)
        return
    with pytest.raises(
        ValueError, match=r"is of the kind \w+, which a PEFT adapter cannot express"
    ):
        export_peft(model, tmp_path / "out")
    assert exported(tmp_path) == []


def test_the_configuration_says_what_is_meant(tmp_path):
    model, _ = built("bert", "alora-ablation", targets=["query", "value"])
    layers = adapted_layers(model)
    names = list(layers)
    keep = dict(zip(names, ([0], range(R), [], range(R)), strict=True))
    resize_ranks(layers, keep, dict.fromkeys(names, 0))
    train(model)
    export_peft(model, tmp_path, base_model_name_or_path="somebody/bert")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    first = "bert.encoder.layer.0.attention.self.query"
    assert config["target_modules"] == [names[0], names[1], names[3]]
    assert names[0] == first
    assert (config["r"], config["lora_alpha"]) == (R, ALPHA)
    key = "^" + first.replace(".", r"\.")
    assert config["rank_pattern"] == {key: 1}
    assert config["alpha_pattern"] == {key: ALPHA / R}
    assert config["modules_to_save"] == ["classifier"]
    assert config["task_type"] == "SEQ_CLS"
    assert config["base_model_name_or_path"] == "somebody/bert"
    loaded = peft.PeftConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, peft.LoraConfig)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_more_names_than_peft_shortens_are_still_those_meant(tmp_path):
    FAMILIES["deep"] = (lambda: bert(5), FAMILIES["bert"][1])
    model, base = built("deep", "alora-ablation")
    del FAMILIES["deep"]
    uneven(model)
    export_peft(model, tmp_path)
    ranks = ranks_on_disk(tmp_path)
    assert len(ranks) > 20  # PEFT replaces so long a list by the ends of names
    assert require_same(model, base, tmp_path) == ranks.keys()


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Linear(6, 6)
        self.query2 = nn.Linear(6, 6)

    def forward(self, x):
        return self.query2(torch.tanh(self.query(x)))


class Names(nn.Module):
    """Names that end alike or hold a regular expression's signs: `query`, `a.query`, `a+.query`."""

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(6, 6)
        self.a = Inner()
        self.add_module("a+", Inner())
        self.add_module("x", nn.ModuleDict({"a": Inner()}))

    def forward(self, x):
        parts = (self.a, self.get_submodule("a+"), self.x["a"])
        return self.query(x) + sum(part(x) for part in parts)


@pytest.mark.parametrize("empty", ["query", "a.query", "a+.query", "x.a.query"])
def test_names_that_end_alike_are_told_apart(empty, tmp_path, rng):
    torch.manual_seed(0)
    model = Names()
    base = copy.deepcopy(model)
    inject_adapters(model, "alora-ablation", r=3, target_modules=r"(.*\.)?query2?")
    layers = adapted_layers(model)
    keep = {name: range(1 + i % 3) for i, name in enumerate(layers)} | {empty: ()}
    resize_ranks(layers, keep, dict.fromkeys(layers, 0))
    with torch.no_grad():
        for layer in layers.values():
            layer.lora_B.normal_(generator=rng)
    export_peft(model, tmp_path)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path)
    found = {n: m for n, m in base.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)}
    assert {n: m.r["default"] for n, m in found.items()} == {
        n: len(k) for n, k in keep.items() if k
    }
    x = torch.randn(5, 6, generator=rng)
    torch.testing.assert_close(loaded(x), model(x), rtol=1e-6, atol=1e-6)


def exported(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def closed(method):
    model, _ = built("bert", method)
    for layer in adapted_layers(model).values():
        if isinstance(layer, GatedLinear):
            layer.resize(torch.tensor([], dtype=torch.long), layer.lora_A[:0].detach())
    return model


def unfrozen():
    model, _ = built("bert", "lora")
    model.bert.embeddings.LayerNorm.requires_grad_(True)
    return model


REFUSED = {
    "no adapters": (bert, "has no adapters to export: put them in"),
    "asf-lora": (lambda: built("bert", "asf-lora")[0], "query is of the kind ASFLoRALinear"),
    "no rank": (lambda: closed("alora-ablation"), "no adapter has a rank left"),
    "closed gates": (lambda: built("bert", "adalora")[0], "no adapter has a rank left"),
    "more trained": (unfrozen, "embeddings.LayerNorm.weight trains but is neither"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_exported_is_one_sentence_and_writes_nothing(case, tmp_path):
    build, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as caught:
        export_peft(build(), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert exported(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match=r"cannot write to .*: name a folder you may write to"):
        export_peft(built("bert", "lora")[0], tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_failure_while_writing_leaves_the_earlier_export(tmp_path, monkeypatch):
    model, base = built("bert", "lora")
    train(model)
    export_peft(model, tmp_path)
    before = {path.name: path.read_bytes() for path in exported(tmp_path)}
    later, _ = built("bert", "alora-ablation")
    uneven(later)

    def full(path, _content):
        path.write_text("half")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            export_peft(later, tmp_path)
    assert {path.name: path.read_bytes() for path in exported(tmp_path)} == before
    require_same(model, base, tmp_path)
