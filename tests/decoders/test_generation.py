"""What is written after a prompt does not depend on what stands beside it in the batch."""

import pytest
import torch

from allora_lab import inject_adapters
from allora_lab.data.prompts import Prompt
from allora_lab.training.generate import generate_texts
from allora_lab.training.likelihood import likeliest_options
from tests.decoders.conftest import TARGETS

TEXTS = ["one two", "four one two three one two two", "three"]


def write(decoder, tokenizer, texts, **settings):
    settings = {"max_length": 32, "max_new_tokens": 6, **settings}
    return generate_texts(decoder, tokenizer, texts, **settings)


def greedy_by_hand(decoder, tokenizer, text, steps=6):
    ids = tokenizer(text)["input_ids"]
    new = []
    for _ in range(steps):
        with torch.no_grad():
            new.append(decoder(input_ids=torch.tensor([ids + new])).logits[0, -1].argmax().item())
        if new[-1] == tokenizer.eos_token_id:
            break
    return tokenizer.decode(new, skip_special_tokens=True)


def test_greedy_texts_are_the_argmax_token_by_token(tokenizer, decoder):
    found = write(decoder, tokenizer, TEXTS)
    assert found == [greedy_by_hand(decoder, tokenizer, text) for text in TEXTS]
    assert any(found)


def test_a_batch_of_prompts_of_several_lengths_gives_what_each_gives_alone(tokenizer, decoder):
    together = write(decoder, tokenizer, TEXTS, num_beams=3)
    alone = [write(decoder, tokenizer, [text], num_beams=3)[0] for text in TEXTS]
    assert together == alone


def test_as_many_beams_as_words_find_the_best_of_all_texts_of_two_words(tokenizer, decoder):
    """Scores are log-likelihoods a token; an end counts as one."""
    text, end = TEXTS[0], tokenizer.eos_token_id
    ids = tokenizer(text)["input_ids"]
    with torch.no_grad():
        first = decoder(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        words = range(len(first))
        then = decoder(input_ids=torch.tensor([[*ids, w] for w in words])).logits[:, -1]
    scores = {(end,): first[end].item()}
    for a in words:
        if a != end:
            for b, value in enumerate(then[a].log_softmax(-1)):
                scores[a, b] = (first[a] + value).item() / 2
    best = tokenizer.decode(list(max(scores, key=scores.get)), skip_special_tokens=True)
    assert write(decoder, tokenizer, [text], num_beams=len(first), max_new_tokens=2) == [best]


def test_generation_settings_of_the_model_are_not_read_and_its_mode_is_kept(tokenizer, decoder):
    expected = write(decoder, tokenizer, TEXTS)
    decoder.generation_config.do_sample = True
    decoder.generation_config.max_new_tokens = 1
    decoder.train()
    assert write(decoder, tokenizer, TEXTS) == expected
    assert decoder.training


@pytest.mark.parametrize("method", ["allora", "alora-ablation", "dora"])
def test_an_adapted_decoder_writes_what_it_wrote_before_training(
    tokenizer, decoder, family, method
):
    expected = write(decoder, tokenizer, TEXTS)
    inject_adapters(decoder, method, r=2, target_modules=TARGETS[family])
    assert write(decoder, tokenizer, TEXTS) == expected


def test_the_option_chosen_is_the_one_of_highest_probability(tokenizer, decoder):
    options = ("the answer is yes", "the answer is no", "the answer is maybe")
    prompts = [Prompt(text, options[0], options) for text in TEXTS]
    chosen = likeliest_options(decoder, tokenizer, prompts, 64)
    for text, choice in zip(TEXTS, chosen, strict=True):
        totals = []
        for option in options:
            before = tokenizer(text)["input_ids"]
            after = [*tokenizer(option, add_special_tokens=False)["input_ids"], 2]
            with torch.no_grad():
                log_p = decoder(input_ids=torch.tensor([before + after])).logits[0].log_softmax(-1)
            totals.append(sum(log_p[len(before) - 1 + i, t].item() for i, t in enumerate(after)))
        assert choice == options[totals.index(max(totals))]
