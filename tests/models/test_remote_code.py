"""Code that comes with a model runs when it is asked for, with a warning, and never else."""

import json
import warnings

import pytest

from allora_lab.cli import main
from allora_lab.models.load import load_model
from allora_lab.models.remote_code import RemoteCodeWarning, allow_code, code_of, with_code

CODE = """
import pathlib
pathlib.Path(__file__).parent.joinpath("ran").touch()
pathlib.Path({marker!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own(tiny_folder, tmp_path, monkeypatch):
    """A folder whose model is a Llama by another name, built by code that leaves a mark when run."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "m"))
    folder, marker = tiny_folder("llama"), tmp_path / "ran"
    (folder / "own_model.py").write_text(CODE.format(marker=str(marker)))
    config = json.loads((folder / "config.json").read_text())
    names = {
        "AutoConfig": "own_model.OwnConfig",
        "AutoModelForCausalLM": "own_model.OwnForCausalLM",
    }
    config |= {"model_type": "own", "architectures": ["OwnForCausalLM"], "auto_map": names}
    (folder / "config.json").write_text(json.dumps(config))
    return folder, marker


def test_it_is_refused_in_one_sentence_and_not_run(own):
    folder, marker = own
    with pytest.raises(ValueError, match=r"own_model\.py.*--trust-remote-code") as caught:
        load_model(str(folder), "causal-lm")
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_asked_for_it_runs_with_a_warning_that_names_the_file(own):
    folder, marker = own
    with pytest.warns(RemoteCodeWarning, match=r"running own_model\.py.*read it"):
        loaded = load_model(str(folder), "causal-lm", trust_remote_code=True)
    assert marker.exists()
    assert type(loaded.model).__name__ == "OwnForCausalLM"


def test_a_kind_that_transformers_knows_needs_no_code_and_runs_none(own):
    folder, marker = own
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RemoteCodeWarning)
        loaded = load_model(str(folder), "causal-lm")
    assert type(loaded.model).__name__ == "LlamaForCausalLM"
    assert not marker.exists()


def test_a_model_without_code_gives_no_warning_though_code_were_allowed(tiny_folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RemoteCodeWarning)
        load_model(str(tiny_folder("gpt2")), "causal-lm", trust_remote_code=True)


def test_files_are_named_once_and_lists_are_read(tmp_path):
    names = {"AutoConfig": "a.Config", "AutoModel": "b.Model", "AutoTokenizer": ["a.Slow", None]}
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": names, "model_type": "x"}))
    assert code_of(tmp_path) == ["a.py", "b.py"]
    with pytest.raises(ValueError, match=r"a\.py and b\.py"):
        allow_code(tmp_path, "some/model", is_trusted=False)


def test_of_a_hub_model_only_code_that_is_missing_is_fetched(own, monkeypatch):
    folder, _ = own
    fetched = []
    monkeypatch.setattr(
        "allora_lab.models.remote_code.fetch_snapshot",
        lambda repo, revision, patterns: (
            fetched.append((repo, revision, "*.py" in patterns)) or folder
        ),
    )
    assert with_code(folder, "org/own", "main") == folder
    (folder / "own_model.py").unlink()
    with_code(folder, "org/own", "main")
    assert fetched == [("org/own", "main", True)]


def test_the_command_has_the_flag(own, tmp_path, capsys):
    folder, marker = own
    rows = [{"instruction": f"the film was {'the ' * i}", "output": "good"} for i in range(12)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["run", "--model", str(folder), "--dataset", str(tmp_path / "rows.jsonl"), "--method"]
    command += ["lora", "--steps", "1", "--batch-size", "2", "--out", str(tmp_path / "out")]
    command += ["--target-modules", "q_proj", "v_proj", "--device", "cpu", "--max-length", "24"]
    assert main(command) == 2
    assert "--trust-remote-code" in capsys.readouterr().err
    assert not marker.exists()
    with pytest.warns(RemoteCodeWarning):
        assert main([*command, "--trust-remote-code"]) == 0
    assert marker.exists()
