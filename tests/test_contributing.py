"""The method that CONTRIBUTING adds as an example passes the contract, as the page says."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def put_before(path, mark, text):
    whole = path.read_text()
    assert whole.count(mark) == 1, mark
    path.write_text(whole.replace(mark, f"{text}\n{mark}"))


def copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


@pytest.mark.slow
def test_the_example_is_a_method_that_keeps_the_contract(tmp_path):
    page = (ROOT / "CONTRIBUTING.md").read_text()
    found = re.findall(r"^ +```(?:python|text)\n(.*?)^ +```", page, re.DOTALL | re.MULTILINE)
    module, row, case = map(textwrap.dedent, found)
    copy(ROOT / "allora_lab", tmp_path / "allora_lab")
    copy(ROOT / "tests" / "adapters", tmp_path / "tests" / "adapters")
    for name in ("conftest.py", "test_export.py", "plots", "experiments/test_one_layer.py"):
        copy(ROOT / "tests" / name, tmp_path / "tests" / name)
    copy(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    for name in ("results", "sweeps"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "allora_lab" / "adapters" / "lora_fa.py").write_text(module)
    methods = tmp_path / "allora_lab" / "methods.py"
    put_before(methods, "        *RANK_METHODS,\n", row)
    name = "from allora_lab.adapters.lora_fa import LoRAFALinear"
    put_before(methods, "from allora_lab.checks import require_known\n", name)
    put_before(
        tmp_path / "tests/adapters/test_contract.py", '    "alora-ablation": Case(),\n', case
    )
    asked = "lora-fa or colour or letters or one_layer"
    words = [sys.executable, "-m", "pytest", "-q", "-k", asked, "tests"]
    done = subprocess.run(
        words,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 45
