"""A saved ALLoRA adapter is a plain LoRA to PEFT, and ALLoRA to who loads it to train on."""

import json
import subprocess
import sys

import peft
import pytest
import torch
from torch.optim import SGD, AdamW

from allora_lab.peft import ALLoRAConfig, ALLoRALayer, load_adapter, use_allora, wrap_update
from allora_lab.sidecar import Sidecar, read_sidecar
from tests.peft_users.models import (
    FAMILIES,
    WORDS,
    base_model,
    fill,
    fresh,
    logits,
    lora_config,
    loss_of,
    peft_model,
    steps,
    trainable,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"  # PEFT's own
)


def trained(family, **settings):
    model = peft_model(family, **settings)
    steps(model, SGD(trainable(model), lr=0.5))
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_peft_loads_it_with_difference_zero(family, tmp_path):
    model = trained(family)
    model.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(fresh(base_model(family)), tmp_path)
    assert type(loaded.peft_config["default"]) is peft.LoraConfig
    assert not any(isinstance(m, ALLoRALayer) for m in loaded.modules())
    assert torch.equal(logits(loaded), logits(model))
    assert (logits(loaded) - logits(base_model(family))).abs().max() > 1e-3
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert not {"eta_squared", "method"} & config.keys()
    assert read_sidecar(tmp_path) == Sidecar(eta_squared=4.0)


def test_a_process_without_this_package_loads_it_with_difference_zero(tmp_path):
    model = trained("llama")
    model.save_pretrained(tmp_path / "adapter")
    base_model("llama").save_pretrained(tmp_path / "base")
    torch.save(logits(model), tmp_path / "logits.pt")
    program = f"""
import sys, torch, peft, transformers
sys.modules["allora_lab"] = None
base = transformers.AutoModelForCausalLM.from_pretrained({str(tmp_path / "base")!r})
model = peft.PeftModel.from_pretrained(base, {str(tmp_path / "adapter")!r}).eval()
with torch.no_grad():
    found = model(input_ids=torch.tensor({WORDS.tolist()})).logits
sys.exit(0 if torch.equal(found, torch.load({str(tmp_path / "logits.pt")!r})) else 3)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("family", FAMILIES)
def test_loaded_to_train_on_it_goes_on_as_the_model_that_was_not_saved(family, tmp_path):
    model = trained(family, eta_squared=9.0)
    model.save_pretrained(tmp_path)
    loaded = load_adapter(fresh(base_model(family)), tmp_path)
    assert loaded.peft_config["default"].eta_squared == 9.0
    assert torch.equal(logits(loaded), logits(model))
    for twin in (model, loaded):
        steps(twin, SGD(trainable(twin), lr=0.5))
    assert len(trainable(loaded)) == len(trainable(model))
    for one, other in zip(trainable(loaded), trainable(model), strict=True):
        assert torch.equal(one, other)
    plain = peft.PeftModel.from_pretrained(fresh(base_model(family)), tmp_path, is_trainable=True)
    steps(plain, SGD(trainable(plain), lr=0.5))
    assert not torch.allclose(logits(plain), logits(model), atol=1e-5)


def test_uneven_ranks_are_kept(tmp_path):
    pattern = {"v_proj": 2, "down_proj": 3}
    model = trained("llama", rank_pattern=pattern, alpha_pattern=pattern)
    model.save_pretrained(tmp_path)
    loaded = load_adapter(base_model("llama"), tmp_path)
    assert {tuple(p.shape) for p in trainable(loaded)} == {tuple(p.shape) for p in trainable(model)}
    assert torch.equal(logits(loaded), logits(model))


def test_each_of_several_adapters_has_its_own_file_and_comes_back_beside_the_other(tmp_path):
    model = peft_model("llama", eta_squared=2.0)
    model.add_adapter("second", use_allora(lora_config("llama"), eta_squared=16.0))
    model.add_adapter("plain", lora_config("llama"))
    fill(model)
    model.save_pretrained(tmp_path)
    assert read_sidecar(tmp_path) == Sidecar(eta_squared=2.0)
    assert read_sidecar(tmp_path / "second") == Sidecar(eta_squared=16.0)
    assert read_sidecar(tmp_path / "plain") is None
    loaded = load_adapter(base_model("llama"), tmp_path)
    loaded.train()
    same = load_adapter(loaded, tmp_path / "second", adapter_name="second")
    assert same is loaded
    assert loaded.training
    assert loaded.active_adapter == "default"
    assert all(p.requires_grad for n, p in loaded.named_parameters() if ".second." in n)
    frozen = {"adapter_name": "frozen", "is_trainable": False}
    load_adapter(loaded, tmp_path / "second", **frozen)
    assert not any(p.requires_grad for n, p in loaded.named_parameters() if ".frozen." in n)
    assert loaded.peft_config["second"].eta_squared == 16.0
    for name in ("default", "second"):
        model.set_adapter(name)
        loaded.set_adapter(name)
        assert torch.equal(logits(loaded), logits(model))
        model.zero_grad()
        loaded.zero_grad()
        loss_of(model).backward()
        loss_of(loaded).backward()
        for one, other in zip(trainable(loaded), trainable(model), strict=True):
            assert torch.equal(one.grad, other.grad)


def test_not_trainable_it_is_frozen_and_computes_the_same(tmp_path):
    model = trained("llama")
    model.save_pretrained(tmp_path)
    loaded = load_adapter(base_model("llama"), tmp_path, is_trainable=False)
    assert not trainable(loaded)
    assert torch.equal(logits(loaded), logits(model))


def test_the_form_on_the_update_is_saved_and_restored(tmp_path):
    model = peft_model("llama")
    wrap_update(AdamW(trainable(model)), model)
    model.save_pretrained(tmp_path)
    assert read_sidecar(tmp_path) == Sidecar(eta_squared=4.0, method="allora-update")
    config = load_adapter(base_model("llama"), tmp_path).peft_config["default"]
    assert isinstance(config, ALLoRAConfig)
    assert config.method == "allora-update"


CORRUPT = {
    "no JSON": ("{", "cannot be read"),
    "no text": (b"\xff\xfe\x00\x81", "cannot be read"),
    "a list": ("[4.0]", r"got \[4\.0\]"),
    "no eta_squared": ('{"method": "allora"}', "got {'method': 'allora'}"),
    "a word": ('{"method": "allora", "eta_squared": "4"}', "eta_squared must be a number, got '4'"),
    "true": ('{"method": "allora", "eta_squared": true}', "must be a number, got True"),
    "zero": ('{"method": "allora", "eta_squared": 0}', "finite number above 0, got 0"),
    "NaN": ('{"method": "allora", "eta_squared": NaN}', "finite number above 0, got nan"),
    "too large": ('{"method": "allora", "eta_squared": 1e9}', "must be at most 1e\\+06"),
    "a number for a method": ('{"method": 3, "eta_squared": 4}', "method must be text, got 3"),
    "a method": ('{"method": "lora", "eta_squared": 4}', "unknown method 'lora'"),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    peft_model("llama").save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize("case", CORRUPT)
def test_a_corrupt_sidecar_is_refused_with_what_was_expected(case, folder):
    content, words = CORRUPT[case]
    content = content if isinstance(content, bytes) else content.encode()
    (folder / "allora.json").write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        load_adapter(base_model("llama"), folder)
    assert 'expected {"method": "allora", "eta_squared": 4.0} in ' in str(error.value)
    assert "\n" not in str(error.value)


def test_without_a_sidecar_eta_squared_must_be_given(folder):
    (folder / "allora.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no allora\.json, .* give eta_squared"):
        load_adapter(base_model("llama"), folder)
    loaded = load_adapter(base_model("llama"), folder, eta_squared=2.0)
    assert loaded.peft_config["default"].eta_squared == 2.0


def test_a_given_eta_squared_overrides_the_file_and_is_checked(folder):
    loaded = load_adapter(base_model("llama"), folder, eta_squared=2.0)
    assert loaded.peft_config["default"].eta_squared == 2.0
    with pytest.raises(ValueError, match="eta_squared must be a finite number above 0"):
        load_adapter(base_model("llama"), folder, eta_squared=0.0)


def test_missing_files_pickles_and_other_adapters_are_refused(folder):
    base = base_model("llama")
    with pytest.raises(FileNotFoundError, match="is no folder"):
        load_adapter(base, folder / "nothing")
    weights = folder / "adapter_model.safetensors"
    (folder / "adapter_model.bin").write_bytes(b"")
    weights.rename(folder / "away")
    with pytest.raises(ValueError, match=r"only as adapter_model\.bin, a pickle"):
        load_adapter(base, folder)
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"no adapter_model\.safetensors"):
        load_adapter(base, folder)
    (folder / "away").rename(weights)
    config = json.loads((folder / "adapter_config.json").read_text())
    for change, words in (
        ({"peft_type": "VERA"}, "of the type VERA"),
        ({"use_dora": True}, "does not go with use_dora"),
        ({"lora_alpha": 8}, "no scaling factor"),
    ):
        (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match=words):
            load_adapter(base, folder)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no adapter_config\.json"):
        load_adapter(base, folder)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("field", ["target_modules", "rank_pattern", "exclude_modules"])
def test_an_expression_in_the_file_is_not_given_to_peft(field, folder):
    path = folder / "adapter_config.json"
    hangs = r"(.*)*x$"
    value = {hangs: 4} if field == "rank_pattern" else hangs
    changes = {field: value} | ({"alpha_pattern": value} if field == "rank_pattern" else {})
    before = load_adapter(base_model("llama"), folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    after = load_adapter(base_model("llama"), folder)
    assert torch.equal(logits(before), logits(after))


@pytest.mark.filterwarnings("ignore:Adapter name")  # PEFT's own, of the empty name
@pytest.mark.parametrize("name", ["", "a.b", "a/b", "../a", "keys"])
def test_a_name_that_cannot_name_an_adapter_is_refused(name, folder):
    with pytest.raises(ValueError, match="name"):
        load_adapter(base_model("llama"), folder, adapter_name=name)
    config = use_allora(lora_config("llama"))
    with pytest.raises(ValueError, match="name"):
        peft.get_peft_model(base_model("llama"), config, adapter_name=name)
    model = load_adapter(base_model("llama"), folder)
    with pytest.raises(ValueError, match="name"):
        model.add_adapter(name, config)
    assert list(model.peft_config) == ["default"]
