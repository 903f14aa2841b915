"""Verdicts follow from intervals, and what is wrong in a file of claims is one sentence."""

import math

import numpy as np
import pytest
import torch

from allora_lab.experiments.claim_file import RECORDED, Claim, judge, read_claims
from allora_lab.experiments.claim_numbers import NUMBERS, filled_in
from allora_lab.experiments.claim_rules import (
    CANNOT_TELL,
    CONTRADICTS,
    PREDICTED,
    RULES,
    SUPPORTS,
    Evidence,
    evidence_of,
)
from allora_lab.experiments.claims import RULES_IN_WORDS, fidelity_markdown
from allora_lab.experiments.dropout_ols import PLACEMENTS, dropout_ols_content
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


def an_interval(low, high):
    return Evidence("a number", 5, (low + high) / 2, low, high)


@pytest.mark.parametrize(
    ("rule", "low", "high", "outcome"),
    [
        ("above", 0.1, 2, SUPPORTS),
        ("above", -2, -0.1, CONTRADICTS),
        ("above", -0.1, 2, CANNOT_TELL),
        ("above", 0, 2, CANNOT_TELL),
        ("below", -2, -0.1, SUPPORTS),
        ("below", 0.1, 2, CONTRADICTS),
        ("below", -2, 0.1, CANNOT_TELL),
        ("clearly-above", 0.1, 2, SUPPORTS),
        ("clearly-above", -0.1, 2, CONTRADICTS),
        ("contains", -0.1, 2, SUPPORTS),
        ("contains", 0.1, 2, CONTRADICTS),
        ("contains", -2, -0.1, CONTRADICTS),
        ("within", -0.5, 0.5, SUPPORTS),
        ("within", -0.5, 0.6, CANNOT_TELL),
        ("within", -0.6, 0.5, CANNOT_TELL),
        ("within", -9, 9, CANNOT_TELL),
        ("within", 0.6, 2, CONTRADICTS),
        ("within", -2, -0.6, CONTRADICTS),
    ],
)
def test_a_rule_decides_by_the_whole_interval(rule, low, high, outcome):
    assert RULES[rule](an_interval(low, high), 0.0, 0.5) == outcome
    shifted = an_interval(low + 3, high + 3)
    assert RULES[rule](shifted, 3.0, 0.5) == outcome


def test_evidence_has_the_t_interval_of_its_values():
    found = evidence_of("x", [1.0, 2.0, 3.0])
    assert (found.n, found.mean) == (3, 2.0)
    assert math.isclose(found.high - 2, 4.302653 / math.sqrt(3), rel_tol=1e-6)
    assert math.isclose(found.low + found.high, 4)
    assert found.words() == "2.00 (-0.484 to 4.48)"


def a_claim(verdict, *items):
    text = dict.fromkeys(("id", "section", "where", "quote", "claim", "verdict_text"), "x")
    return Claim(**text, paper="ALLoRA", verdict=verdict, evidence=items)


UP = {"key": "mnist-mean-from-0", "rule": "below", "value": 1}  # falls to 0.57 on MNIST: supports
DOWN = {"key": "cifar10-mean-from-0", "rule": "below", "value": 1}  # rises: contradicts
CLOSE = {"key": "sgd-allora-early-lora-at-lr", "rule": "within", "value": 2, "margin": 0.1}
UNSURE = {"key": "mnist-max-from-1", "rule": "above", "value": 1}  # 0.86 to 1.08


@pytest.mark.parametrize(
    ("items", "fitting"),
    [
        ((UP,), {"holds", "holds-only-if"}),
        ((UP, DOWN), {"holds-only-if"}),
        ((DOWN,), {"does-not-hold"}),
        ((UNSURE,), {"open"}),
        ((UP, UNSURE), {"holds-only-if", "open"}),
        ((DOWN, UNSURE), {"does-not-hold", "open"}),
    ],
)
def test_only_verdicts_that_the_recorded_runs_allow_are_taken(items, fitting):
    for verdict in ("holds", "holds-only-if", "does-not-hold", "open", "not-testable-here"):
        if verdict in fitting:
            assert len(judge(a_claim(verdict, *items))) == len(items)
        else:
            with pytest.raises(ValueError, match=f"claim 'x' has the verdict '{verdict}', but"):
                judge(a_claim(verdict, *items))


@pytest.mark.parametrize(
    ("item", "verdict", "said"),
    [
        (UP, "holds", "supports it (rule: below 1)"),
        (CLOSE, "holds", "supports it (rule: 2 ± 0.1)"),
        (
            {**UP, "rule": "clearly-above"},
            "does-not-hold",
            "contradicts it (rule: clearly above 1)",
        ),
        ({**UP, "rule": "contains"}, "does-not-hold", "contradicts it (rule: interval holds 1)"),
    ],
)
def test_a_judged_number_says_by_which_rule(item, verdict, said):
    (piece,) = judge(a_claim(verdict, item))
    assert piece.words().endswith(f", {piece.evidence.n} {piece.evidence.units}: {said}")


def test_every_rule_has_its_words():
    assert PREDICTED.keys() == RULES.keys()


def test_what_is_not_recorded_leaves_a_claim_open(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    (piece,) = judge(a_claim("open", UP))
    assert piece.evidence is None
    with pytest.raises(ValueError, match="not recorded yet; choose open"):
        judge(a_claim("holds", UP))
    assert {name for name, of in RECORDED.items() if of()} == set()


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


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ('"mnist"', "evidence of claim 'one' must be a table"),
        ('{ key = "mnist", rule = "above" }', "unknown evidence of claim 'one' 'mnist'"),
        ('{ key = "mnist-max-from-0" }', "unknown rule of claim 'one' ''"),
        ('{ key = "mnist-max-from-0", rule = "abov" }', "did you mean 'above'"),
        ('{ key = "mnist-max-from-0", rule = "within" }', "margin belongs to the rule within"),
        ('{ sweep = "ablation", rule = "above" }', "must have either key, or sweep and compare"),
        ('{ key = "mnist-max-from-0", seeds = 5 }', "unknown key of evidence of claim 'one'"),
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
    assert "\n| **holds** | [said in plain words](#one) | §1 | – | – |\n" in page
    assert "\n> said (§1)\n\n**holds**: It does.\n\n`allora-lab figure ripple` · function" in page
    assert RULES_IN_WORDS in page
