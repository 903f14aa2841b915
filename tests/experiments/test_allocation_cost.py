"""What moving ranks costs beside LoRA's run, with the paper's Table 4 beside it."""

import json
import re

import pytest

from allora_lab.experiments.allocation_cost import allocation_cost_content
from allora_lab.files import REPOSITORY

from .test_cost import VALUES


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    (tmp_path / "cost").mkdir()
    return tmp_path / "cost" / "allocation.json"


def test_a_run_is_compared_with_loras_and_the_papers_table_stands_beside_it(path):
    values = {
        **VALUES,
        "seconds": {"lora": [10.0] * 6, "alora-ablation": [40.0, 41, 42, 43, 44, 45]},
        "peak_bytes": {"lora": 2**20, "alora-ablation": 5 * 2**20},
    }
    path.write_text(json.dumps(values))
    content = allocation_cost_content()
    time, memory = content["panels"]
    assert [row["mean"] for row in time["rows"]] == pytest.approx([325])
    assert [row["mean"] for row in memory["rows"]] == pytest.approx([400])
    assert content["sentences"][1].startswith("ALoRA: a run takes 4.250 [4.000, 4.500] times")
    assert "5.000 times the memory (+4.00 MiB)" in content["sentences"][1]
    # 3.63 / 2.68, 18.8 / 17.6; 3.81 / 2.68, 18.1 / 17.6
    assert content["sentences"][-1] == (
        "The paper's Table 4, LLaMA-2-7B on E2E: SoRA 1.35 times LoRA's time and 1.07 times its memory "
        "and ALoRA 1.42 times LoRA's time and 1.03 times its memory."
    )


def test_the_setting_it_states_is_the_benchmarks(path):
    path.write_text(json.dumps(VALUES))
    benchmark = (REPOSITORY / "benchmarks" / "allocation.py").read_text()
    steps, rounds = re.search(
        r"^STEPS = (\d+).*?\"rounds\": (\d+)", benchmark, re.MULTILINE | re.DOTALL
    ).groups()
    assert int(rounds) == 1
    assert f"{steps} steps with one round" in allocation_cost_content()["sentences"][0]


def test_without_a_record_the_command_that_makes_it_is_named(path):
    with pytest.raises(
        FileNotFoundError, match=r"python benchmarks/allocation\.py --rounds 6 --json"
    ):
        allocation_cost_content()
