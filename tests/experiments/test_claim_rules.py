"""One rule per row, one p-value per test, and exactly one verdict per claim."""

import itertools
import math

import pytest
from scipy import stats

from allora_lab.experiments import claim_judge
from allora_lab.experiments.claim_file import Claim, read_claims
from allora_lab.experiments.claim_judge import judge, judge_all
from allora_lab.experiments.claim_measures import MEASURES
from allora_lab.experiments.claim_rules import (
    CANNOT_TELL,
    CONTRADICTS,
    ONE_MEASUREMENT,
    RULES,
    SUPPORTS,
    outcome,
    verdict_of,
)
from allora_lab.experiments.evidence import Evidence, evidence_of

CLOSE, FAR = (0.1, -0.1, 0.2, -0.2, 0.0), (2.1, 1.9, 2.2, 1.8, 2.0)
WIDE = (5.0, -6.0, 4.0, -3.0, 0.1)


def negative(values):
    return tuple(-value for value in values)


@pytest.mark.parametrize(
    ("rule", "values", "said"),
    [
        ("above", FAR, SUPPORTS),
        ("above", negative(FAR), CONTRADICTS),
        ("above", CLOSE, CANNOT_TELL),
        ("above", WIDE, CANNOT_TELL),
        ("below", negative(FAR), SUPPORTS),
        ("below", FAR, CONTRADICTS),
        ("below", WIDE, CANNOT_TELL),
        ("within", CLOSE, SUPPORTS),
        ("within", WIDE, CANNOT_TELL),
        ("within", FAR, CONTRADICTS),
        ("within", negative(FAR), CONTRADICTS),
    ],
)
def test_a_rule_decides_by_the_whole_interval(rule, values, said):
    for shift in (0.0, 3.0):
        found = evidence_of("x", [value + shift for value in values])
        assert outcome(rule, found, shift, 0.5, 0.001) == said


@pytest.mark.parametrize("rule", RULES)
def test_an_interval_that_includes_the_value_never_supports_or_contradicts(rule):
    """It once contradicted "significantly above", and supported "no evident difference"."""
    assert outcome(rule, evidence_of("x", WIDE), 0.0, 0.5, 0.001) == CANNOT_TELL


@pytest.mark.parametrize(("rule", "values"), [("above", FAR), ("below", FAR), ("within", CLOSE)])
def test_a_row_whose_adjusted_p_is_not_below_the_level_cannot_tell(rule, values):
    found = evidence_of("x", values)
    assert outcome(rule, found, 0.0, 0.5, 0.049) != CANNOT_TELL
    assert outcome(rule, found, 0.0, 0.5, 0.05) == CANNOT_TELL
    assert outcome(rule, found, 0.0, 0.5, None) == CANNOT_TELL


def test_one_measurement_is_not_judged_and_an_exact_count_is():
    assert outcome("below", Evidence("x", (0.9,), units="run"), 1, 0, None) == ONE_MEASUREMENT
    assert outcome("below", Evidence("x", (0.9,), kind="count"), 1, 0, None) == SUPPORTS


def test_p_values_are_those_of_scipy():
    found = evidence_of("x", FAR)
    expected = stats.ttest_1samp(FAR, 1.5).pvalue
    assert RULES["above"].p_value(found, 1.5, 0) == pytest.approx(expected)
    assert RULES["below"].p_value(found, 1.5, 0) == pytest.approx(expected)
    lower = stats.ttest_1samp(CLOSE, -0.5, alternative="greater").pvalue
    upper = stats.ttest_1samp(CLOSE, 0.5, alternative="less").pvalue
    p = RULES["within"].p_value(evidence_of("x", CLOSE), 0, 0.5)
    assert p == pytest.approx(max(lower, upper))
    outside = RULES["within"].p_value(found, 0, 0.5)
    assert outside == pytest.approx(stats.ttest_1samp(FAR, 0.5).pvalue)


def test_ratios_are_tested_on_their_logarithms_and_medians_by_signs():
    ratio = Evidence("x", (2.0, 2.2, 1.8), kind="ratio")
    expected = stats.ttest_1samp([math.log(v) for v in (2.0, 2.2, 1.8)], 0.0).pvalue
    assert RULES["above"].p_value(ratio, 1.0, 0) == pytest.approx(expected)
    median = Evidence("x", tuple(range(1, 9)), kind="median")
    assert RULES["above"].p_value(median, 0.0, 0) == pytest.approx(2 / 2**8)
    assert (median.mean, median.low, median.high) == (4.5, 1, 8)


def test_evidence_has_the_t_interval_of_its_values():
    found = evidence_of("x", [1.0, 2.0, 3.0])
    assert (found.n, found.mean) == (3, 2.0)
    assert math.isclose(found.high - 2, 4.302653 / math.sqrt(3), rel_tol=1e-6)
    assert found.words() == "2.00 [-0.484, 4.48]"
    with pytest.raises(ValueError, match="add seeds"):
        evidence_of("x", [1.0])


def test_values_without_a_spread_are_not_tested():
    assert not evidence_of("x", [6.0, 6.0, 6.0]).is_tested
    assert not Evidence("x", (1.0,)).is_tested
    assert evidence_of("x", [6.0, 6.0, 5.0]).is_tested


@pytest.mark.parametrize(
    ("rows", "verdict", "met"),
    [
        ([("", SUPPORTS), ("", SUPPORTS)], "holds", []),
        ([("", CONTRADICTS), ("", CONTRADICTS)], "does-not-hold", []),
        ([("", CANNOT_TELL), ("", CONTRADICTS)], "open", []),
        ([("", SUPPORTS)] + [("", CANNOT_TELL)] * 5, "open", []),
        ([("", SUPPORTS), ("", CONTRADICTS)], "open", []),
        ([("a", SUPPORTS), ("b", CONTRADICTS)], "holds-only-if", ["a"]),
        ([("a", SUPPORTS), ("", CANNOT_TELL)], "holds-only-if", ["a"]),
        ([("a", SUPPORTS), ("", SUPPORTS), ("", CANNOT_TELL)], "open", []),
        ([("a", SUPPORTS), ("a", CANNOT_TELL), ("b", CONTRADICTS)], "open", []),
        ([("a", SUPPORTS), ("b", SUPPORTS), ("b", CANNOT_TELL)], "holds-only-if", ["a"]),
        ([("", ONE_MEASUREMENT)], "open", []),
    ],
)
def test_exactly_one_verdict_follows_from_the_rows(rows, verdict, met):
    assert verdict_of(rows) == (verdict, met)
    assert verdict_of(rows[::-1])[0] == verdict


def test_one_supporting_row_without_a_condition_never_turns_a_claim():
    for others in itertools.product((CANNOT_TELL, CONTRADICTS), repeat=5):
        assert verdict_of([("", SUPPORTS), *(("", said) for said in others)])[0] == "open"


# ------------------------------------------------ claims, judged together


def a_claim(verdict, *items, **more):
    text = dict.fromkeys(("section", "where", "quote", "claim", "verdict_text"), "x")
    given = {"id": "x", "paper": "ALLoRA", "verdict": verdict, "evidence": items, **more}
    return Claim(**{**text, **given})


@pytest.fixture
def measures(monkeypatch):
    """Return what makes a measure of some values, by a name, and an item of evidence on it."""

    def put(name, values, **item):
        given = {key: item.pop(key) for key in ("seeds", "unstarted", "kind") if key in item}
        monkeypatch.setitem(MEASURES, name, lambda: Evidence(name, tuple(values), **given))
        return {"measure": name, "rule": "above", **item}

    return put


def test_p_values_of_a_paper_are_adjusted_together_and_a_shared_row_counts_once(measures):
    rows = [measures(f"m{i}", (0.0, 1.0 + i, 2.0)) for i in range(3)]
    ours = [a_claim("open", *rows, id="a"), a_claim("open", rows[0], id="b")]
    other = a_claim("open", measures("other", FAR), id="c", paper="ALoRA")
    found = judge_all([*ours, other])
    p = [row.p for row in found["a"].rows]
    expected = stats.false_discovery_control(p)
    assert [row.adjusted_p for row in found["a"].rows] == pytest.approx(list(expected))
    assert found["b"].rows[0].adjusted_p == pytest.approx(expected[0])
    assert found["c"].rows[0].adjusted_p == found["c"].rows[0].p


def test_rows_that_decide_nothing_do_not_make_the_adjustment_of_a_verdict_milder(
    measures, monkeypatch
):
    rows = [measures("m", (1.0, 2.0, 4.0)), measures("n", WIDE)]
    alone = judge_all([a_claim("open", *rows)])["x"].rows[0].adjusted_p
    late = [measures(f"late {i}", FAR, chosen="after the data") for i in range(9)]
    monkeypatch.setattr(claim_judge, "number", float)
    beside = measures("beside", WIDE, printed="100", chosen="after the data")
    projected = measures("p", FAR)
    monkeypatch.setitem(MEASURES, "p", lambda: Evidence("p", FAR, is_projected=True))
    found = judge_all([a_claim("open", *rows, *late, beside, projected)])["x"].rows
    assert found[0].adjusted_p == alone
    p = [row.p for row in found] + [row.printed.p for row in found if row.printed]
    assert found[2].adjusted_p == pytest.approx(stats.false_discovery_control(p)[2])


def test_a_row_chosen_after_the_data_is_shown_and_decides_nothing(measures):
    late = measures("late", FAR, chosen="after the data")
    claim = a_claim("open", measures("m", WIDE), late)
    found = judge_all([claim])["x"]
    assert found.verdict == "open"
    assert [row.outcome for row in found.rows] == [CANNOT_TELL, SUPPORTS]
    assert "decides nothing" in found.rows[1].words()
    unsure = measures("unsure", WIDE, chosen="after the data")
    assert judge_all([a_claim("holds", measures("n", FAR), unsure)])["x"].verdict == "holds"


def test_the_printed_size_decides_only_a_claim_about_the_size(measures, monkeypatch):
    monkeypatch.setattr(claim_judge, "number", float)
    row = measures("m", CLOSE, printed="2")
    for about_size, said in ((False, CANNOT_TELL), (True, CONTRADICTS)):
        (judged,) = judge_all([a_claim("open", row, about_size=about_size)])["x"].rows
        assert judged.printed.is_excluded
        assert "+2.00: excluded" in judged.words()
        assert judged.outcome == said
        assert ("by its size" in judged.says) == about_size
    (judged,) = judge_all([a_claim("open", {**row, "printed": "0.1"}, about_size=True)])["x"].rows
    assert (judged.printed.is_excluded, judged.outcome) == (False, CANNOT_TELL)


def test_a_claim_is_judged_again_without_the_seed_that_never_started(measures):
    seeds = {"seeds": (0, 1, 2, 3, 4, 5), "unstarted": (3,)}
    row = measures("m", (2.0, 2.1, 1.9, -30.0, 2.2, 1.8), **seeds)
    found = judge_all([a_claim("open", row)])["x"]
    assert (found.verdict, found.without.verdict) == ("open", "holds")
    assert found.without.rows[0].evidence.n == 5
    assert "seed 3" in found.words_without[0]
    assert judge_all([a_claim("open", measures("n", WIDE))])["x"].without is None


def test_too_few_seeds_are_left_to_say_anything_without_one():
    found = Evidence("x", (1.0, 2.0, 3.0), seeds=(0, 1, 2), unstarted=(1,))
    assert found.without_unstarted() is None


def test_the_verdict_of_the_file_must_be_the_one_that_follows(measures):
    row = measures("m", FAR)
    (judged,) = judge(a_claim("holds", row), among=())
    assert judged.outcome == SUPPORTS
    for verdict in ("holds-only-if", "does-not-hold", "open", "not-testable-here"):
        with pytest.raises(ValueError, match="so write 'holds'"):
            judge(a_claim(verdict, row), among=())


def test_what_is_not_recorded_leaves_every_claim_tested_by_runs_open(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    found = judge_all(read_claims())
    judged = [verdict for verdict in found.values() if verdict.rows]
    assert {verdict.verdict for verdict in judged} == {"open"}
    assert {row.evidence for verdict in judged for row in verdict.rows} == {None}


def test_every_measure_is_used_by_a_claim():
    items = [i for claim in read_claims() for i in (*claim.evidence, *claim.quoted)]
    assert {item["measure"] for item in items if "measure" in item} == MEASURES.keys()


def test_optimizers_under_which_a_method_does_different_things_are_not_pooled():
    for claim in read_claims():
        for item in claim.evidence:
            if item.get("sweep") == "perception":
                assert "optimizer" in item["where"], claim.id
