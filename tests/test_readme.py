"""What README and the guide name exists, and their scripts run."""

import re
from pathlib import Path

from allora_lab import METHODS
from allora_lab.data.datasets import PROMPT_SETS
from allora_lab.data.text import DATASETS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "guide.md").read_text()
RESULTS = (ROOT / "docs" / "results.md").read_text()


def test_it_names_every_method_and_data_set():
    for name in (*METHODS, *DATASETS, *PROMPT_SETS):
        assert f"`{name}`" in GUIDE


def test_its_targets_and_links_exist():
    makefile = (ROOT / "Makefile").read_text()
    for page, folder in ((README, ROOT), (GUIDE, ROOT / "docs"), (RESULTS, ROOT / "docs")):
        for target in re.findall(r"\bmake (\w+)", page):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        for link in re.findall(r"\]\((?!http)([^)]+)\)", page):
            assert (folder / link.partition("#")[0]).exists(), link


def test_its_lines_on_moving_ranks_run_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (lines,) = [block for block in blocks if "resize_ranks" in block]
    names = {}
    exec(lines, names)  # noqa: S102
    ranks = sorted(layer.r for layer in names["layers"].values())
    assert sum(ranks) == 12 * 4
    assert len(set(ranks)) > 1
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


def test_its_lines_for_peft_are_those_that_a_test_runs():
    script = ROOT / "tests" / "peft_users" / "readme_script.txt"
    assert script.read_text().strip() in README


def test_a_room_without_internet_is_given_what_the_makefile_installs():
    installed, fetched = (
        re.search(r'"\.\[(.*?)\]"', (ROOT / name).read_text()).group(1)
        for name in ("Makefile", "docs/lecturers.md")
    )
    assert fetched == installed
