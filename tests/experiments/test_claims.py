"""Verdicts follow from rows, and what is wrong in a file of claims is one sentence."""

import math
import re

import numpy as np
import pytest
import torch

from allora_lab.experiments.claim_file import read_claims
from allora_lab.experiments.claim_numbers import NUMBERS, filled_in
from allora_lab.experiments.claims import RULES_IN_WORDS, fidelity_markdown, verdict_counts
from allora_lab.experiments.dropout_ols import PLACEMENTS, dropout_ols_content
from allora_lab.experiments.evidence import Evidence
from allora_lab.experiments.hessian import hessian_content
from allora_lab.experiments.paper_numbers import paper_differences
from allora_lab.experiments.ripple import ripple_content
from allora_lab.theory.adaptive_rate import row_norm

ROW = """
[[claim]]
id = "one"
section = "A section"
paper = "ALLoRA"
where = "§1"
quote = "said"
claim = "said in plain words"
function = "allora_lab/config.py::scaled_rate"
test = "tests/test_cli.py::test_bad"
verdict = "holds"
verdict_text = "It does."
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('id = "one"', 'idd = "one"'), "unknown key of claim 1 'idd': did you mean 'id'"),
        (('quote = "said"\n', ""), "claim 'one' has no quote: add quote"),
        (('quote = "said"', 'quote = ""'), "claim 'one' has no quote: add quote"),
        (('verdict = "holds"', 'verdict = "true"'), "unknown verdict of claim 'one' 'true'"),
        (('"ALLoRA"', '"LoRA"'), "unknown paper of claim 'one' 'LoRA'"),
        (('test = "tests/test_cli.py::test_bad"', ""), "claim 'one' is judged by nothing"),
        (('where = "§1"', "where = 1"), "where of claim 'one' must be text, got 1"),
        (("[[claim]]", "[claim]"), "claim must be written as"),
        (("[[claim]]", "[[claims]]"), "unknown key of a file of claims 'claims'"),
        (("", ROW), "two claims have the id 'one'"),
    ],
)
def test_a_malformed_claim_is_one_clear_sentence(change, message, tmp_path):
    path = tmp_path / "claims.toml"
    path.write_text(ROW.replace(*change, 1))
    with pytest.raises(ValueError, match=message):
        read_claims(path)


BEST = '{ measure = "best-epoch", of = { dropout = 0.1 }}'


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ('"mnist"', "evidence of claim 'one' must be a table"),
        ('{ measure = "best", rule = "above" }', "did you mean 'best-epoch'"),
        (BEST, "unknown rule of claim 'one' ''"),
        (BEST.replace(" }}", ' }, rule = "abov" }'), "did you mean 'above'"),
        (BEST.replace(" }}", ' }, rule = "clearly-above" }'), "unknown rule"),
        (BEST.replace(" }}", ' }, rule = "contains" }'), "unknown rule"),
        (BEST.replace(" }}", ' }, rule = "within" }'), "margin belongs to the rule within"),
        (BEST.replace(" }}", ' }, rule = "above", value = "1" }'), "must be a number"),
        (BEST.replace(" }}", ' }, rule = "above", chosen = "later" }'), "after the data"),
        (BEST.replace("dropout", "drop-out"), "did you mean 'dropout'"),
        ('{ measure = "best-epoch", rule = "above" }', "lacks dropout"),
        (BEST.replace("of =", "where ="), "has where, where of belongs"),
        ('{ sweep = "ablation", rule = "above" }', "either measure, or sweep and compare"),
        ('{ measure = "best-epoch", seeds = 5 }', "unknown key of evidence of claim 'one'"),
    ],
)
def test_malformed_evidence_is_one_clear_sentence(item, message, tmp_path):
    path = tmp_path / "claims.toml"
    path.write_text(ROW + f"evidence = [{item}]\n")
    with pytest.raises(ValueError, match=message):
        read_claims(path)


def test_numbers_are_computed_when_a_verdict_quotes_them():
    assert filled_in("{table3-wins:.0f} of {stack-layers:.0f}") == "18 of 24"
    with pytest.raises(ValueError, match="unknown number in a verdict 'table3-win'"):
        filled_in("{table3-win}")


def test_a_text_quotes_the_numbers_of_its_own_rows():
    found = Evidence("x", (1.0, 2.0, 3.0))
    assert filled_in("{few.mean:.1f} of {few.n}", {"few": found}) == "2.0 of 3"
    assert filled_in("{few.low:.1f}", {"few": None}) == "(not recorded)"


def test_no_verdict_of_a_run_has_a_measured_number_typed_by_hand():
    """Settings may be typed: dropouts, steps, ranks, sizes; a decimal that is no dropout may not."""
    settings = {"0.05", "0.1", "0.2", "0.4", "0.9", "1.25", "1.5"}  # dropouts, and values of rules
    for claim in read_claims():
        typed = re.sub(r"\{[^}]*\}|§[0-9.]+", "", claim.verdict_text)
        decimals = set(re.findall(r"\d+\.\d+", typed))
        assert not claim.evidence or decimals <= settings, (claim.id, decimals - settings)


def test_every_number_is_one():
    for name, compute in NUMBERS.items():
        assert math.isfinite(compute()), name


def test_numbers_are_those_of_the_figures():
    ols, hessian = dropout_ols_content(), hessian_content()
    moving = ols["cases"]["output"]["not_whitened"]["moving"]
    noise = dict(zip(moving["steps"], np.divide(moving["spread"], moving["effect"]), strict=True))
    missed = {p: ols["cases"][p]["not_whitened"]["shrinkage"]["distance"] for p in PLACEMENTS}
    condition = hessian["conditioning"]
    medians = dict(zip(condition["n"], condition["median"], strict=True))
    start = next(row for row in hessian["landscape"] if row["scale"] == 1)
    wait = hessian["escape"]
    stack = ripple_content()["stacks"]["multi-linear"]
    expected = {
        **{f"noise-after-{n}": noise[n] for n in (3, 10, 100, 10000)},
        **{f"ridge-missed-{placement}": distance for placement, distance in missed.items()},
        **{f"condition-at-{n}": medians[n] for n in (4, 32)},
        **{f"few-{name}": hessian["spectra"][0][name] for name in ("n", "rank", "size")},
        **{f"appendix-{line}": ols["appendix"][line] for line in ("printed", "corrected")},
        **{f"stack-{curve}": stack[curve][-1] for curve in ("bound", "aligned", "random")},
        "one-loss-strays": ols["sampled"]["errors"][0] / ols["sampled"]["added"],
        "masked-entries": ols["setting"]["n"] * ols["setting"]["c"],
        "std-at-zero": ols["std_from_zero"]["std"][0],
        "joint-bias": ols["joint_bias"]["bias"] / ols["joint_bias"]["effect"],
        "d-in": hessian["d_in"],
        "wait": wait["times"][wait["scales"].index(1.0)] / wait["full_time"],
        "gradient-at-start": start["gradient_B"],
    }
    assert {name: NUMBERS[name]() for name in expected} == pytest.approx(expected, rel=1e-9)


def printed_gaps(*names):
    return list(paper_differences(*names).differences.values())


def test_the_sum_of_table_one_is_right():
    assert printed_gaps("commonsense", "ALLoRA+D", "DoRA") == [0.1, 0.0, -0.1, 1.1, 0.2, 0.6]
    for name in ("table1", "table1-dropout"):
        assert f"{NUMBERS[f'{name}-mean']():.1f}" == "0.3"


def test_table_one_has_a_tie_where_it_says_best():
    both = (printed_gaps("commonsense", ours, "DoRA") for ours in ("ALLoRA+D", "ALLoRA"))
    assert [max(pair) for pair in zip(*both, strict=True)].count(0.0) == 1


def test_the_papers_tables_have_losses_where_it_says_universally():
    for theirs in ("ALLoRA-OD", "ASF-LoRA", "LoRAxeta"):
        assert min(printed_gaps("ablation", "ALLoRA+D", theirs)) < 0
    for ours in ("ALLoRA", "ALLoRA+D"):
        assert min(printed_gaps("perception", ours, "LoRA")) < 0


def test_eta_squared_changes_more_than_the_rate():
    steps = torch.tensor([1e-4, 10.0], dtype=torch.float64)
    near, far = row_norm(2 * steps, 1.0) / row_norm(steps, 4.0)  # both have η × rate = 2
    assert math.isclose(near, 1, rel_tol=1e-3)
    assert far > 1.3


def test_the_page_shows_a_verdict_first_and_its_interval(monkeypatch, tmp_path):
    path = tmp_path / "claims.toml"
    path.write_text(ROW + 'command = "allora-lab figure ripple"\n')
    monkeypatch.setattr("allora_lab.experiments.claims.read_claims", lambda: read_claims(path))
    page = fidelity_markdown()
    assert "\n| **holds** | [said in plain words](#one) | §1 | – |\n" in page
    assert "\n> said (§1)\n\n**holds**: It does.\n\n`allora-lab figure ripple` · function" in page
    assert RULES_IN_WORDS in page


def test_derivations_are_counted_apart_from_claims_tested_by_runs():
    claims = read_claims()
    counts = verdict_counts(claims)
    for paper in ("ALLoRA", "ALoRA"):
        of_paper = [claim for claim in claims if claim.paper == paper]
        by_runs = counts[paper, "claims tested by runs"].total()
        assert by_runs == sum(bool(claim.evidence) for claim in of_paper)
        assert by_runs + counts[paper, "derivations and misprints"].total() == len(of_paper)
