"""The list of data says truly what is here, without fetching anything."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from allora_lab.data import rated
from allora_lab.data.datasets import PROMPT_SETS
from allora_lab.data.images import IMAGE_SETS, MNIST_FILES
from allora_lab.data.inventory import describe_data
from allora_lab.data.text import DATASETS, load_text
from allora_lab.files import sha256_of
from allora_lab.models import hub


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is cached, nothing may be asked for."""
    monkeypatch.setenv("ALLORA_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ALLORA_LAB_DATA", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("it started a process"))
    monkeypatch.setattr(hub, "_probe", lambda *a: pytest.fail("it asked the hub"))
    return tmp_path


def rows() -> dict[str, dict[str, str | bool | None]]:
    return {str(row["key"]): row for row in describe_data()}


def test_there_is_one_row_a_data_set_and_one_a_model():
    assert list(rows()) == [
        *DATASETS,
        *PROMPT_SETS,
        *IMAGE_SETS,
        "minilm",
        "tinystories-656k",
    ]
    for row in rows().values():
        assert row["what"]
        assert row["licence"]
        assert row["source"]


def test_on_a_bare_machine_no_data_set_is_here(bare_machine: Path):
    for key in (*DATASETS, *PROMPT_SETS, "tinystories-656k"):
        assert (rows()[key]["here"], rows()[key]["sha256"]) == (False, None)
    assert rows()["nyt_rated"]["path"] == str(bare_machine / "cache" / rated.ARCHIVE)
    assert not (bare_machine / "cache").exists()


def test_an_altered_archive_is_here_and_its_checksum_differs_from_the_expected(bare_machine: Path):
    path = bare_machine / "cache" / rated.ARCHIVE
    path.parent.mkdir()
    path.write_bytes(b"other")
    row = rows()["tweets_rated"]
    assert (row["here"], row["sha256"]) == (True, sha256_of(path))
    assert row["expected_sha256"] == rated.ARCHIVE_SHA256 != row["sha256"]


def test_local_files_are_here_with_the_revision_a_load_records(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ALLORA_LAB_DATA", str(bare_machine))
    (bare_machine / "rotten_tomatoes").mkdir()
    for sign in ("neg", "pos"):
        path = bare_machine / f"rotten_tomatoes/rt-polarity.{sign}.gz"
        path.write_bytes(gzip.compress(sign.encode()))
    row = rows()["rotten_tomatoes"]
    assert (row["here"], row["path"]) == (True, str(bare_machine / "rotten_tomatoes"))
    assert row["sha256"] == load_text("rotten_tomatoes").revision


def test_a_wrong_data_folder_is_listed_as_not_here(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ALLORA_LAB_DATA", "/nowhere/at/all")
    assert rows()["emotion"]["here"] is False


def test_the_models_row_carries_the_checksum_of_its_weights(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
):
    row = rows()["minilm"]
    assert row["here"] is True
    assert row["sha256"] == row["expected_sha256"]
    monkeypatch.setenv("ALLORA_LAB_MINILM", str(bare_machine))
    assert (rows()["minilm"]["here"], rows()["minilm"]["sha256"]) == (False, None)


def test_an_unknown_data_set_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="unknown data set 'emotoin': did you mean 'emotion'"):
        load_text("emotoin")


def test_importing_the_registry_imports_no_deep_learning_library(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.undo()
    heavy = "{'torch', 'transformers', 'datasets', 'pyarrow', 'huggingface_hub'}"
    program = (
        "import sys, allora_lab.data.inventory, allora_lab.data.text;"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_images_are_here_when_their_files_are_and_the_packaged_ones_always(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
):
    assert not rows()["mnist"]["here"]
    assert rows()["mnist5k"]["here"]
    assert rows()["mnist5k"]["sha256"] == rows()["mnist5k"]["expected_sha256"]
    for name in MNIST_FILES:
        (bare_machine / name).parent.mkdir(exist_ok=True)
        (bare_machine / name).write_bytes(name.encode())
    monkeypatch.setenv("ALLORA_LAB_DATA", str(bare_machine))
    row = rows()["mnist"]
    assert row["here"]
    assert row["path"] == str(bare_machine / "mnist")
    assert len(row["sha256"]) == 64
    assert not rows()["cifar10"]["here"]


def test_prompts_and_the_decoder_are_here_when_their_files_are(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ALLORA_LAB_DATA", str(bare_machine))
    for name in ("commonsense/boolq_train.json", "tinystories-656k/model.safetensors"):
        (bare_machine / name).parent.mkdir()
        (bare_machine / name).write_bytes(b"x")
    found = rows()
    assert found["commonsense"]["here"]
    assert not found["e2e"]["here"]
    decoder = found["tinystories-656k"]
    assert decoder["sha256"] == sha256_of(bare_machine / "tinystories-656k" / "model.safetensors")
