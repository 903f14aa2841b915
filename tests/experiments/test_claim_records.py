"""Evidence that is read straight from records is what the records hold, counted by hand."""

from dataclasses import replace
from statistics import fmean, geometric_mean

import pytest

from allora_lab.experiments.allocation_cost import (
    allocation_cost_path,
    break_even,
    run_memory,
    run_time,
)
from allora_lab.experiments.claim_file import Claim
from allora_lab.experiments.claim_flaws import left_of_b_over_a, left_under_dropout
from allora_lab.experiments.claim_ranks import unevenness
from allora_lab.experiments.collected import collect
from allora_lab.experiments.cost import read_cost_record


def of_flaws(dropout):
    return collect("flaws").where(lora_dropout=dropout)


def length_of(record, factor, step):
    at = record.trace["step"].index(step)
    return fmean(layer[f"norm_{factor}"][at] for layer in record.trace["layers"].values())


@pytest.mark.parametrize("step", [8, 128])
@pytest.mark.parametrize("factor", ["A", "B"])
def test_what_strong_dropout_leaves_of_a_factor_is_a_ratio_of_its_norms(factor, step):
    pairs = zip(of_flaws(0.4), of_flaws(0.05), strict=True)
    ratios = [length_of(a, factor, step) / length_of(b, factor, step) for a, b in pairs]
    found = left_under_dropout(f"‖{factor}‖", step)
    assert found.n == 5
    assert found.mean == pytest.approx(fmean(ratios))
    assert f"‖{factor}‖ after {step} steps" in found.what


def test_b_beside_a_is_above_one_where_b_keeps_more():
    ratios = [
        length_of(a, "B", 128)
        / length_of(b, "B", 128)
        / length_of(a, "A", 128)
        * length_of(b, "A", 128)
        for a, b in zip(of_flaws(0.4), of_flaws(0.05), strict=True)
    ]
    assert left_of_b_over_a(128).mean == pytest.approx(fmean(ratios))


PLAIN = "ALoRA by plain passes"


@pytest.mark.parametrize(
    ("name", "key"), [("ALoRA", "alora-ablation"), (PLAIN, "ALoRA, plain passes")]
)
def test_what_a_run_costs_over_another_is_of_the_benchmark_s_record(name, key):
    record = read_cost_record(allocation_cost_path())
    ratios = [a / b for a, b in zip(record.seconds[key], record.seconds["sora"], strict=True)]
    time = run_time(name, "SoRA")
    assert time.values == pytest.approx(ratios)
    assert (time.n, time.units, time.mean) == (6, "rounds", pytest.approx(geometric_mean(ratios)))
    memory = run_memory(name, "SoRA")
    assert memory.values == (record.peak_bytes[key] / record.peak_bytes["sora"],)
    assert not memory.is_tested


@pytest.mark.parametrize(("rival", "times"), [("LoRA", 1.5), ("SoRA", 1.5), ("ALoRA-DNAS", 1.0)])
def test_with_rounds_as_rare_as_the_break_even_a_run_takes_just_so_long(rival, times):
    steps = break_even("ALoRA", rival, times)
    assert run_time("ALoRA", rival, every=round(steps)).mean == pytest.approx(times, rel=0.02)
    assert run_time("ALoRA", rival, every=2 * round(steps)).mean < times
    assert run_time("ALoRA", rival, every=64).values == run_time("ALoRA", rival).values


def test_unevenness_is_the_spread_of_ranks_over_their_mean():
    record = collect("allocation").records[0]
    ranks = {"a": [4, 2], "b": [4, 4], "c": [4, 6], "d": [4, 4]}  # ends at 2, 4, 6, 4
    moved = replace(record, trace={**record.trace, "allocation": {"ranks": ranks}})
    assert unevenness(moved) == pytest.approx(2**0.5 / 4)
    even = {name: [4, 4] for name in ranks}
    assert unevenness(replace(record, trace={"allocation": {"ranks": even}})) == 0


def test_a_sentence_of_the_submission_alone_says_what_the_arxiv_version_has():
    text = dict.fromkeys(("id", "section", "where", "quote", "claim", "verdict_text"), "x")
    claim = Claim(**text, paper="ALLoRA", verdict="open")
    assert claim.words_on_arxiv == []
    (words,) = replace(claim, arxiv="has another.").words_on_arxiv
    assert words == "† Of the submission alone: the arXiv version has another."
