"""How many rows `max_length` cut is known, of sentences and of prompts."""

import pytest

from allora_lab.config import RunConfig
from allora_lab.data.answers import encode_answers
from allora_lab.data.batches import encode, halves
from allora_lab.data.prompts import Prompt, PromptSplit
from allora_lab.data.splits import Split
from allora_lab.experiments.tasks import training_notes

TEXTS = ("one two", "one two three", "one two three four", "no")


def test_the_sentences_that_lost_tokens_are_marked_and_those_that_just_fit_are_not(tokenizer):
    split = encode(tokenizer, Split(TEXTS, (0, 1, 0, 1)), 4)  # <s> and three words
    assert split.was_cut == (False, False, True, False)
    assert halves(split)[1].was_cut == (True, False)


def test_the_prompts_that_lost_tokens_are_marked(tokenizer):
    split = PromptSplit(tuple(Prompt(text, "yes") for text in TEXTS))
    assert encode_answers(tokenizer, split, 6).was_cut == (False, False, True, False)
    assert encode_answers(tokenizer, split, 64).was_cut == (False,) * 4


@pytest.mark.parametrize(("max_length", "batch_size", "said"), [(4, 4, 1), (9, 64, 1), (9, 4, 0)])
def test_cut_rows_and_a_batch_of_all_rows_are_said(tokenizer, max_length, batch_size, said):
    config = RunConfig(method="lora", max_length=max_length, batch_size=batch_size)
    notes = training_notes(config, encode(tokenizer, Split(TEXTS, (0, 1, 0, 1)), max_length))
    assert len(notes) == said
    assert all("1 of the 4" in note or "batch_size 64" in note for note in notes)


def test_an_empty_split_is_refused(tokenizer):
    for split in (Split((), ()), PromptSplit(())):
        with pytest.raises(ValueError, match="no row"):
            encode(tokenizer, split, 8)
