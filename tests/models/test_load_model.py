"""A pretrained model loads the same way from a key, a folder or the hub, or says what is wrong."""

import json
from collections.abc import Callable
from functools import partial
from logging import Handler, LogRecord
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel
from transformers.utils import logging

from allora_lab.files import sha256_of
from allora_lab.models.load import load_model

Save = Callable[[str], Path]


def head(folder: Path, **options: int) -> torch.Tensor:
    return load_model(str(folder), **options).model.classifier.weight.detach().clone()


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_minilm_has_its_pretrained_body_and_a_new_head_of_the_size_asked():
    loaded = load_model("minilm", num_labels=5)
    saved = load_file(Path(loaded.tokenizer.name_or_path) / "model.safetensors")
    body = loaded.model.bert.state_dict()
    for name in ("embeddings.word_embeddings.weight", "encoder.layer.5.output.dense.weight"):
        torch.testing.assert_close(body[name], saved[name], rtol=0, atol=0)
    assert loaded.model.classifier.weight.shape == (5, 384)
    assert loaded.revision == ("53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db")
    assert loaded.tokenizer("a film").input_ids == [101, 1037, 2143, 102]


def test_a_folder_is_loaded_whole_and_named_by_the_sha256_of_its_weights(tiny_folder: Save):
    folder = tiny_folder("llama")
    loaded = load_model(str(folder), "causal-lm")
    saved = load_file(folder / "model.safetensors")
    found = loaded.model.state_dict()
    for name, tensor in saved.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)
    assert loaded.revision == sha256_of(folder / "model.safetensors")
    assert (loaded.name, loaded.source) == (str(folder), "a local folder")


def test_weights_kept_in_sixteen_bits_are_loaded_in_thirty_two(tiny_folder: Save):
    folder = tiny_folder("gpt2")
    AutoModel.from_pretrained(folder, dtype=torch.float16).save_pretrained(folder)
    dtypes = {p.dtype for p in load_model(str(folder)).model.parameters()}
    assert dtypes == {torch.float32}


def test_the_head_depends_on_the_seed_and_on_nothing_else(tiny_folder: Save):
    folder = tiny_folder("bert")
    torch.manual_seed(1)
    first = head(folder, seed=4)
    torch.manual_seed(2)
    torch.testing.assert_close(head(folder, seed=4), first, rtol=0, atol=0)
    assert not torch.equal(head(folder, seed=5), first)


def test_the_callers_random_state_is_left_as_it_was(tiny_folder: Save):
    folder = tiny_folder("bert")
    before = torch.get_rng_state()
    load_model(str(folder), seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_trained_head_of_the_same_size_is_kept_and_another_size_is_drawn_anew(
    tiny_folder: Save,
):
    folder = tiny_folder("bert-3-labels")
    saved = load_file(folder / "model.safetensors")["classifier.weight"]
    torch.testing.assert_close(head(folder, num_labels=3), saved, rtol=0, atol=0)
    assert head(folder, num_labels=4).shape == (4, 24)
    torch.testing.assert_close(
        head(folder, num_labels=4, seed=6), head(folder, num_labels=4, seed=6), rtol=0, atol=0
    )


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_model_without_a_padding_token_pads_with_the_end_of_text(family: str, tiny_folder: Save):
    loaded = load_model(str(tiny_folder(family)))
    assert loaded.tokenizer.pad_token == "</s>"
    assert loaded.model.config.pad_token_id == 1
    batch = loaded.tokenizer(["good", "the film was bad"], padding=True, return_tensors="pt")
    alone = loaded.tokenizer(["good"], return_tensors="pt")
    batch.pop("token_type_ids", None)
    alone.pop("token_type_ids", None)
    with torch.no_grad():  # the padding does not change what the shorter text scores
        padded, single = loaded.model.eval()(**batch).logits[:1], loaded.model(**alone).logits
    torch.testing.assert_close(padded, single, rtol=1e-4, atol=1e-6)


def test_a_padding_token_of_its_own_is_kept(tiny_folder: Save):
    loaded = load_model(str(tiny_folder("bert")))
    assert (loaded.tokenizer.pad_token, loaded.model.config.pad_token_id) == ("<pad>", 2)


def test_loading_reports_nothing_and_gives_the_verbosity_back(
    tiny_folder: Save, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
):
    request.addfinalizer(partial(logging.set_verbosity, logging.get_verbosity()))
    folder = tiny_folder("bert")
    logging.set_verbosity_warning()
    reported: list[LogRecord] = []
    listener = Handler()
    listener.emit = reported.append
    logging.add_handler(listener)
    request.addfinalizer(partial(logging.remove_handler, listener))
    capfd.readouterr()
    load_model(str(folder))
    assert capfd.readouterr() == ("", "")
    assert reported == []
    assert logging.get_verbosity() == logging.WARNING
    assert logging.is_progress_bar_enabled()
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        load_model(str(folder))
    assert logging.get_verbosity() == logging.WARNING
    assert logging.is_progress_bar_enabled()


@pytest.mark.parametrize("kept_bytes", [0, 5, 900, -1])
def test_weights_cut_short_are_refused_in_one_sentence(kept_bytes: int, tiny_folder: Save):
    folder = tiny_folder("bert")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept_bytes])
    with pytest.raises(ValueError, match="damaged or cut short") as caught:
        load_model(str(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_lack_a_pretrained_tensor_are_refused(tiny_folder: Save):
    folder = tiny_folder("bert")
    edit_weights(folder, lambda tensors: tensors.pop("encoder.layer.1.output.dense.weight"))
    with pytest.raises(ValueError, match=r"do not fit.*1 tensors such as .*layer\.1\.output"):
        load_model(str(folder))


@pytest.mark.parametrize("is_tied", [True, False])
def test_a_tied_embedding_is_found_under_the_name_of_the_output_and_an_untied_one_is_not(
    is_tied: bool, tiny_folder: Save
):
    folder = tiny_folder("llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": is_tied}))
    words = torch.arange(8 * 24.0).reshape(8, 24)
    edit_weights(folder, lambda t: t.update({"lm_head.weight": words}))
    edit_weights(folder, lambda t: t.pop("model.embed_tokens.weight"))
    if not is_tied:
        with pytest.raises(ValueError, match=r"such as model\.embed_tokens\.weight are missing"):
            load_model(str(folder))
        return
    loaded = [load_model(str(folder), seed=seed).model for seed in (3, 3, 4)]
    torch.testing.assert_close(loaded[0].model.embed_tokens.weight.data, words)
    heads = [model.score.weight.data for model in loaded]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_weights_of_another_shape_are_refused(tiny_folder: Save):
    folder = tiny_folder("bert")
    name = "embeddings.word_embeddings.weight"
    edit_weights(folder, lambda tensors: tensors.update({name: torch.zeros(9, 24)}))
    with pytest.raises(ValueError, match="do not fit"):
        load_model(str(folder))


def test_a_missing_pooler_is_drawn_from_the_seed(tiny_folder: Save):
    folder = tiny_folder("bert")
    edit_weights(folder, lambda t: [t.pop(f"pooler.dense.{part}") for part in ("weight", "bias")])
    weights = [load_model(str(folder), seed=2).model.bert.pooler.dense.weight for _ in range(2)]
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_a_language_model_is_not_made_from_weights_without_its_head(tiny_folder: Save):
    with pytest.raises(ValueError, match=r"do not fit its config\.json for causal-lm"):
        load_model(str(tiny_folder("bert")), "causal-lm")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused_by_name(name: str, tiny_folder: Save):
    folder = tiny_folder("gpt2")
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {name}"):
        load_model(str(folder))


def test_a_folder_without_a_tokenizer_is_refused(tiny_folder: Save):
    folder = tiny_folder("gpt2")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer\.json"):
        load_model(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_json_file_cut_short_is_refused_by_name(name: str, tiny_folder: Save):
    folder = tiny_folder("gpt2")
    (folder / name).write_text((folder / name).read_text()[:-3])
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        load_model(str(folder))


def test_pickled_weights_are_never_read(tiny_folder: Save):
    folder = tiny_folder("gpt2")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="pickled weights are refused"):
        load_model(str(folder))


def test_code_that_comes_with_a_model_is_never_run(tiny_folder: Save, tmp_path: Path):
    folder = tiny_folder("bert")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "code.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    ran = tmp_path / "ran"
    (folder / "code.py").write_text(f"open({str(ran)!r}, 'w')\nModel = None\n")
    load_model(str(folder))
    assert not ran.exists()


def test_a_model_in_two_files_loads_and_a_lost_one_is_named(tiny_folder: Save):
    folder = tiny_folder("llama")
    whole = load_file(folder / "model.safetensors")
    model = load_model(str(folder), "causal-lm").model
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    found = load_model(str(folder), "causal-lm").model.state_dict()
    for name, tensor in whole.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)
    shards[1].unlink()
    with pytest.raises(FileNotFoundError, match=shards[1].name):
        load_model(str(folder), "causal-lm")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("minlm", "did you mean 'minilm'"),
        ("", "a local folder with config.json"),
        ("./nowhere", "a hub id org/name as openai-community/gpt2"),
        ("a/b/c", "a hub id org/name"),
    ],
)
def test_an_unknown_name_is_told_the_ways_to_name_a_model(name: str, says: str):
    with pytest.raises(ValueError, match="unknown model") as caught:
        load_model(name)
    assert says in str(caught.value)


def test_an_unknown_task_a_single_label_and_a_misplaced_revision_are_refused():
    with pytest.raises(ValueError, match="did you mean 'causal-lm'"):
        load_model("minilm", "causal_lm")
    with pytest.raises(ValueError, match="num_labels must be at least 2, got 1"):
        load_model("minilm", num_labels=1)
    with pytest.raises(ValueError, match="revision 'main' is for hub ids only"):
        load_model("minilm", revision="main")
