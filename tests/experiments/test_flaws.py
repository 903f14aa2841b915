"""The three flaws in a real fine-tune: numbers of the records, and sentences that agree with them."""

import re
from statistics import fmean

import pytest

from allora_lab.experiments.collected import collect
from allora_lab.experiments.flaws import flaws_content, masks_over_batches, norm_by_layer


@pytest.fixture(scope="module")
def records():
    return collect("flaws").records


def with_dropout(records, dropout):
    return [record for record in records if record.config["lora_dropout"] == dropout]


def test_masks_over_batches_is_noise_over_noise_not_over_signals(records):
    noise = records[0].trace["evaluations"]["gradient_noise"]
    over_masks, over_batches = (noise[key]["B"] for key in ("over_masks", "over_batches"))
    ratios = masks_over_batches(records[0])
    assert len(ratios) == len(records[0].trace["evaluations"]["step"])
    for ratio, masks, batches in zip(
        ratios, over_masks["noise"], over_batches["noise"], strict=True
    ):
        assert ratio == masks / batches
    assert over_masks["signal"][0] != over_batches["signal"][0]  # so they may not be divided out


def test_the_lines_of_the_first_flaw_are_means_over_seeds_beside_the_batches(records):
    lines = {line["label"]: line for line in flaws_content()["panels"][0]["lines"]}
    assert set(lines["batches"]["mean"]) == {1.0}
    for dropout in (0.05, 0.4):
        ends = [masks_over_batches(record)[-1] for record in with_dropout(records, dropout)]
        assert lines[f"masks, dropout {dropout:g}"]["mean"][-1] == pytest.approx(fmean(ends))


def test_the_sentences_say_the_means(records):
    said = " ".join(flaws_content()["sentences"])
    for dropout in (0.05, 0.4):
        found = [masks_over_batches(record) for record in with_dropout(records, dropout)]
        start, end = (fmean(ratios[at] for ratios in found) for at in (0, -1))
        pattern = rf"dropout {dropout:g} move B's gradient ([\d.]+) times .*? and ([\d.]+) times"
        assert re.search(pattern, said).groups() == (f"{start:.2f}", f"{end:.2f}")


def test_the_layers_norms_start_at_zero_and_the_ratio_of_the_ends_is_said(records):
    layers = norm_by_layer(records)
    assert {curve[0] for curve in layers.values()} == {0.0}
    ends = [curve[-1] for curve in layers.values()]
    said = " ".join(flaws_content()["sentences"])
    assert f"ends {max(ends) / min(ends):.1f} times as long" in said
