"""The GPU's benchmark, small and on a CPU; and what it says where there is no GPU."""

import json
import os
import subprocess
import sys

import pytest
import torch

from allora_lab.files import REPOSITORY

CONTENDERS = {"lora", "allora", "allora-update", "dora", "PEFT LoRA", "PEFT DoRA"}


def benchmark(*words):
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "gpu.py"), *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_small_run_measures_every_contender_in_both_types(tmp_path):
    path = tmp_path / "gpu.json"
    small = ("--device", "cpu", "--tiny", "--rounds", "6", "--models", "smollm-135m")
    done = benchmark(*small, "--json", str(path))
    assert done.returncode == 0, done.stderr
    record = json.loads(path.read_text())
    assert [cell["dtype"] for cell in record["cells"]] == ["float32", "bfloat16"]
    assert record["matmul_tflops"].keys() == {"float32", "bfloat16"}
    for cell in record["cells"]:
        assert cell["weights"] == "random"
        assert cell["summary"].keys() == cell["seconds"].keys() == CONTENDERS
        assert {len(seconds) for seconds in cell["seconds"].values()} == {6}
        assert cell["summary"]["lora"]["ratio_to_lora"] == [1, 1, 1]
        lora = cell["summary"]["lora"]
        peak = record["matmul_tflops"][cell["dtype"]] * 1e12
        share = cell["step_flop"] / lora["median_seconds"] / peak
        assert lora["share_of_peak"] == pytest.approx(share)
        for name, planned in cell["planned_peak_bytes"].items():
            assert planned == pytest.approx(cell["peak_bytes"][name], rel=0.1)
    assert "smollm-135m (random weights), bfloat16" in done.stdout
    assert record["device"].startswith("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_one_sentence_says_what_to_do():
    done = benchmark()
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "there is no device 'cuda' here" in done.stderr
    assert "--device cpu --tiny" in done.stderr
