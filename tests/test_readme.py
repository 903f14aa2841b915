"""README, the guide and the results say what the records and the Makefile say."""

import re
from pathlib import Path

from allora_lab import METHODS
from allora_lab.data.datasets import PROMPT_SETS
from allora_lab.data.text import DATASETS
from allora_lab.experiments.claims import verdict_table
from allora_lab.experiments.headlines import headline_table
from allora_lab.experiments.tables import escape_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "guide.md").read_text()
RESULTS = (ROOT / "docs" / "results.md").read_text()


def test_its_table_is_made_from_the_records():
    shown = re.search(r"<!-- escape-table -->\n(.*)\n<!-- /escape-table -->", RESULTS, re.DOTALL)
    assert shown.group(1) == escape_table()


def test_its_headlines_are_made_from_the_records():
    pattern = r"<!-- headline-table -->\n(.*)\n<!-- /headline-table -->"
    assert re.search(pattern, RESULTS, re.DOTALL).group(1) == headline_table()


def test_its_verdicts_are_those_of_the_claims():
    pattern = r"<!-- verdict-table -->\n(.*)\n<!-- /verdict-table -->"
    assert re.search(pattern, README, re.DOTALL).group(1) == verdict_table()


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


def test_its_numbers_on_placed_ranks_are_the_records():
    from statistics import fmean

    from allora_lab.experiments.rank_content import in_planted, recorded_groups

    found = recorded_groups("planted")
    for label in ("ALoRA", "ALoRA, 1,024 examples", "ALoRA, 1,024 examples, n_A = 1"):
        assert f"{fmean(map(in_planted, found[label])):.1f}" in RESULTS


def test_its_lines_for_peft_are_those_that_a_test_runs():
    script = ROOT / "tests" / "peft_users" / "readme_script.txt"
    assert script.read_text().strip() in README


def test_a_room_without_internet_is_given_what_the_makefile_installs():
    installed, fetched = (
        re.search(r'"\.\[(.*?)\]"', (ROOT / name).read_text()).group(1)
        for name in ("Makefile", "docs/lecturers.md")
    )
    assert fetched == installed
