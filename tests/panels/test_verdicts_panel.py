"""The verdicts panel shows the claims that are chosen, all of them, escaped, with their evidence."""

import dataclasses
import html

import pytest

from allora_lab.experiments.claim_file import VERDICTS, Claim
from allora_lab.panels import verdicts
from allora_lab.panels.verdicts import VerdictsPanel, chosen, claims, counted, show_claims

CLAIM = Claim(
    id="one",
    section="A <b> section",
    paper="ALLoRA",
    where="§1 & 2",
    quote="a < b",
    claim="a is <i>less</i>",
    verdict="open",
    verdict_text="nobody knows",
)
FAST = "Zero start (§3.2)"  # a section whose evidence is not a sweep's


def rows(table):
    return table.count("<tr>") - 1  # less the heading


@pytest.fixture
def one_claim(monkeypatch):
    def put(**changes):
        claim = dataclasses.replace(CLAIM, **changes)
        monkeypatch.setattr(verdicts, "claims", lambda: (claim,))
        clear()
        return VerdictsPanel()

    def clear():
        verdicts._row.cache_clear()
        verdicts._judged.cache_clear()

    yield put
    clear()


def test_each_verdict_shows_its_claims_and_no_other():
    panel = VerdictsPanel()
    for key in VERDICTS:
        panel.controls["verdict"].value = key
        found = [claim for claim in claims() if claim.verdict == key]
        table = panel.table.value
        assert (rows(table) if table else 0) == len(found)
        assert all(html.escape(claim.claim) in table for claim in found)
        assert panel.caption.value.startswith(f"{len(found)} claim")


def test_all_verdicts_together_are_all_claims():
    assert sum(len(chosen(key)) for key in VERDICTS) == len(chosen()) == len(claims())


def test_a_section_keeps_its_claims_in_the_files_order():
    panel = VerdictsPanel()
    panel.controls["verdict"].value = "all"
    panel.controls["section"].value = FAST
    expected = [claim for claim in claims() if claim.section == FAST]
    places = [panel.table.value.index(html.escape(claim.claim)) for claim in expected]
    assert places == sorted(places)
    assert rows(panel.table.value) == len(expected)


def test_every_section_can_be_chosen():
    offered = {value for _, value in VerdictsPanel().controls["section"]._options_full}
    assert offered == {"all"} | {claim.section for claim in claims()}


def test_the_counts_are_of_what_is_shown():
    found = chosen(section=FAST)
    words = counted(found)
    assert words.startswith(f"{len(found)} claims: ")
    for key, word in VERDICTS.items():
        n = sum(claim.verdict == key for claim in found)
        assert (f"{n} {word}" in words) == (n > 0)
    assert counted(found[:1]).startswith("1 claim: 1 ")
    assert counted([]) == "0 claims."


def test_words_of_the_papers_are_escaped(one_claim):
    panel = one_claim()
    panel.controls["verdict"].value = "open"
    assert "a &lt; b" in panel.table.value
    assert "a is &lt;i&gt;less&lt;/i&gt;" in panel.table.value
    assert "§1 &amp; 2" in panel.table.value


def test_a_claim_is_checked_by_its_command_else_its_test_else_the_derivation(one_claim):
    for given, shown in (
        ({"command": "allora-lab figure x", "test": "tests/a.py::test_b"}, "allora-lab figure x"),
        ({"test": "tests/a.py::test_b"}, "pytest tests/a.py::test_b"),
        ({}, "by the derivation alone"),
    ):
        panel = one_claim(**given)
        panel.controls["verdict"].value = "all"
        assert shown in panel.table.value


EARLY = {
    "measure": "row-norms",
    "of": {"optimizer": "sgd", "method": "allora", "part": "early", "against": "lr"},
    "rule": "within",
    "margin": 0.1,
}


def test_evidence_has_its_interval_its_seeds_and_what_it_says(one_claim):
    panel = one_claim(verdict="holds", evidence=({**EARLY, "value": 2},))
    panel.controls["verdict"].value = "holds"
    (piece,) = verdicts._judged()["one"].rows
    assert f"{piece.evidence.words()}, 5 seeds: supports it" in html.unescape(panel.table.value)


def test_a_verdict_that_does_not_follow_says_so_in_its_row(one_claim):
    panel = one_claim(verdict="holds", evidence=({**EARLY, "value": 3},))
    panel.controls["verdict"].value = "holds"
    said = html.unescape(panel.table.value)
    assert "'one' has the verdict 'holds', but its evidence says: contradicts it" in said
    assert "supports it" not in said


def test_a_choice_without_claims_is_an_empty_page(one_claim):
    panel = one_claim()
    panel.controls["verdict"].value = "holds"
    assert (panel.table.value, panel.caption.value) == ("", "0 claims.")


def test_a_page_without_a_kernel_gets_the_same_table():
    panel = VerdictsPanel()
    panel.controls["verdict"].value = "holds"
    assert show_claims("holds").data == panel.table.value


def test_an_unknown_verdict_is_one_sentence_with_those_there_are():
    with pytest.raises(ValueError, match=r"unknown verdict 'hold': choose one of all, holds"):
        show_claims("hold")
