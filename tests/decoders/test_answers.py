"""The loss is on the answer alone, whatever stands beside it in the batch."""

import pytest
import torch
from tokenizers import processors
from torch import nn

from allora_lab.data.answers import encode_answers, prompt_ids
from allora_lab.data.batches import batch_at, collate, halves
from allora_lab.data.prompts import Prompt, PromptSplit
from allora_lab.training.likelihood import answer_log_likelihoods, answer_loss

PROMPTS = PromptSplit(
    (
        Prompt("one two", "yes"),
        Prompt("one two three four one two", "no maybe"),
        Prompt("four", "maybe yes no"),
    )
)


def test_ids_are_those_of_the_prompt_then_of_the_answer_then_the_end(tokenizer):
    split = encode_answers(tokenizer, PROMPTS, 64)
    words = [tokenizer.convert_ids_to_tokens(ids) for ids in split.token_ids]
    assert words[0] == ["<s>", "one", "two", "yes", "</s>"]
    assert split.answer_from == (3, 7, 2)
    assert split.lengths == (5, 10, 6)


def test_labels_are_the_answers_ids_and_nothing_else(tokenizer):
    split = encode_answers(tokenizer, PROMPTS, 64)
    batch = collate(split, [0, 2])
    yes, no, maybe, end = tokenizer.convert_tokens_to_ids(["yes", "no", "maybe", "</s>"])
    assert batch["labels"].tolist() == [
        [-100, -100, -100, yes, end, -100],
        [-100, -100, maybe, yes, no, end],
    ]
    assert batch["attention_mask"].tolist() == [[1] * 5 + [0], [1] * 6]


def test_a_long_prompt_loses_its_beginning_and_a_long_answer_its_end(tokenizer):
    split = encode_answers(tokenizer, PROMPTS, 5)
    words = [tokenizer.convert_ids_to_tokens(ids) for ids in split.token_ids]
    assert words[1] == ["one", "two", "no", "maybe", "</s>"]
    assert words[2] == ["four", "maybe", "yes", "no", "</s>"]
    short = encode_answers(tokenizer, PROMPTS, 3)
    assert tokenizer.convert_ids_to_tokens(short.token_ids[2]) == ["four", "maybe", "yes"]
    with pytest.raises(ValueError, match="max_length must be 2 or more"):
        encode_answers(tokenizer, PROMPTS, 1)


def test_a_tokenizer_that_ends_every_text_does_not_end_a_prompt(tokenizer):
    expected = prompt_ids(tokenizer, "one two", 9)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    assert tokenizer("one two")["input_ids"] == [*expected, 2]
    assert prompt_ids(tokenizer, "one two", 9) == expected


def test_a_tokenizer_without_an_end_is_refused(tokenizer):
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no end-of-text token"):
        encode_answers(tokenizer, PROMPTS, 9)


def test_log_likelihoods_are_those_of_one_text_at_a_time_without_padding(tokenizer, decoder):
    split = encode_answers(tokenizer, PROMPTS, 64)
    found = answer_log_likelihoods(decoder, split, batch_size=2)
    for row, value in enumerate(found):
        ids, start = torch.tensor([split.token_ids[row]]), split.answer_from[row]
        with torch.no_grad():
            log_p = decoder(input_ids=ids).logits[0].log_softmax(-1)
        expected = sum(log_p[t - 1, ids[0, t]].item() for t in range(start, ids.shape[1]))
        assert value == pytest.approx(expected, abs=1e-4)


def test_the_mean_loss_is_the_models_own_when_all_are_in_one_batch(tokenizer, decoder):
    split = encode_answers(tokenizer, PROMPTS, 64)
    with torch.no_grad():
        own = decoder(**collate(split, [0, 1, 2])).loss.item()
    assert answer_loss(decoder, split) == pytest.approx(own, abs=1e-5)
    assert not decoder.training


def test_the_prompt_gets_no_gradient_of_its_own(tokenizer, decoder):
    """By hand: cross-entropy of the answer's positions only gives the same gradients."""
    split = encode_answers(tokenizer, PROMPTS, 64)
    batch = batch_at(split, step=0, batch_size=3, seed=0)
    decoder(**batch).loss.backward()
    words = decoder.get_input_embeddings().weight
    got = words.grad.clone()
    decoder.zero_grad()
    logits = decoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    taught = batch["labels"][:, 1:] != -100
    assert taught.sum() == sum(
        len(i) - s for i, s in zip(split.token_ids, split.answer_from, strict=True)
    )
    nn.functional.cross_entropy(logits[:, :-1][taught], batch["labels"][:, 1:][taught]).backward()
    torch.testing.assert_close(got, words.grad)


def test_halves_of_prompts_keep_where_answers_begin(tokenizer):
    first, second = halves(encode_answers(tokenizer, PROMPTS, 64))
    assert (first.answer_from, second.answer_from) == ((3, 7), (2,))
