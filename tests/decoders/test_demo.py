"""The notebook's table is of the records; the live part says what is missing."""

import math
from statistics import fmean, stdev

import pytest

from allora_lab.experiments.collected import collect
from allora_lab.experiments.decoder_demo import before_and_after, e2e_table


def test_the_table_has_the_means_and_intervals_of_the_records_and_the_ranks_at_the_end():
    rows = {line[:20].strip(): line[20:].split() for line in e2e_table().splitlines()[1:]}
    lora = collect("e2e").where(method="lora")
    bleu = [100 * record.metrics["eval_bleu"] for record in lora]
    half = 2.776445 * stdev(bleu) / math.sqrt(len(bleu))
    assert len(lora) == 5
    assert rows["LoRA"][:3] == [f"{fmean(bleu):.1f}", "±", f"{half:.1f}"]
    assert rows["LoRA"][-2:] == rows["ALoRA"][-2:] == ["56", "5"]
    assert float(rows["SoRA, ξ = 0.009"][-2]) < 0.6 * float(rows["SoRA, ξ = 0.002"][-2])


def test_without_the_decoder_the_live_part_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("ALLORA_LAB_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises((FileNotFoundError, ConnectionError)):
        before_and_after(steps=1)
