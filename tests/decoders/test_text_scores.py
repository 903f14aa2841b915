"""Scores of texts, each against a value worked out by hand."""

import math

import pytest

from allora_lab.experiments import text_scores as scores
from allora_lab.experiments.text_scores import text_scores

SAID = ["the cat sat on the mat", "a cat was on the mat"]


def test_the_same_text_scores_one_and_nothing_in_common_scores_nought():
    same = text_scores([SAID[1]], [SAID])
    assert same["bleu"] == pytest.approx(1)
    assert same["rouge_l"] == 1
    # METEOR's penalty for one chunk of six words: 0.5 (1/6)^3
    assert same["meteor"] == pytest.approx(1 - 0.5 / 6**3)
    other = text_scores(["dogs bark"], [SAID])
    assert (other["rouge_l"], other["meteor"]) == (0, 0)


def test_bleu_by_hand():
    """5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 fours; as long as the reference."""
    found = text_scores(["the cat sat on a mat"], [SAID[:1]])
    expected = math.exp(sum(map(math.log, (5 / 6, 3 / 5, 2 / 4, 1 / 3))) / 4)
    assert found["bleu"] == pytest.approx(expected)


def test_rouge_l_by_hand_and_the_best_reference_counts():
    """Longest common subsequence "the cat on mat": 4 of 5 words here, 4 of 6 there."""
    found = text_scores(["the cat is on mat"], [SAID[:1]])
    assert found["rouge_l"] == pytest.approx(2 * (4 / 5) * (4 / 6) / (4 / 5 + 4 / 6))
    both = text_scores(["a cat was on the mat"], [SAID])
    assert both["rouge_l"] == 1


def test_meteor_counts_stems_but_no_synonyms():
    exact, stem, synonym = (
        text_scores([word], [["cats"]])["meteor"] for word in ("cats", "cat", "felines")
    )
    assert exact == stem == pytest.approx(0.5)
    assert synonym == 0


def test_bleu_takes_references_that_differ_in_number():
    one = text_scores([SAID[0], SAID[1]], [SAID[:1], SAID])
    assert one["bleu"] == pytest.approx(1)


@pytest.mark.parametrize(("written", "said"), [([], []), (["a"], [[]]), (["a", "b"], [["a"]])])
def test_texts_without_references_are_refused(written, said):
    with pytest.raises(ValueError, match="each text needs references"):
        text_scores(written, said)


def test_missing_libraries_are_named_with_the_extra(monkeypatch):
    monkeypatch.setattr(scores, "find_spec", lambda name: None if name == "sacrebleu" else name)
    with pytest.raises(ModuleNotFoundError, match=r"needs sacrebleu: .*allora-lab\[generation\]"):
        text_scores(["a"], [["a"]])
