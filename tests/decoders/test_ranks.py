"""Ranks of a decoder are scored on its answers, by both ways alike."""

import pytest
import torch

from allora_lab import inject_adapters
from allora_lab.adapters.inject import adapted_layers
from allora_lab.allocation.importance import negative_cross_entropy, plain_scores
from allora_lab.allocation.replay import replayed_scores
from allora_lab.data.answers import encode_answers
from allora_lab.data.batches import collate
from allora_lab.data.prompts import Prompt, PromptSplit
from tests.decoders.conftest import TARGETS

PROMPTS = PromptSplit(
    (
        Prompt("one two", "yes"),
        Prompt("one two three four one two", "no maybe"),
        Prompt("four", "maybe yes no"),
    )
)


@pytest.fixture
def batch(tokenizer):
    return collate(encode_answers(tokenizer, PROMPTS, 64), [0, 1, 2])


@pytest.fixture
def adapted(decoder, family):
    generator = torch.Generator().manual_seed(3)
    inject_adapters(decoder, "alora-ablation", r=2, target_modules=TARGETS[family])
    with torch.no_grad():
        for layer in adapted_layers(decoder).values():
            layer.lora_B.normal_(generator=generator)
            layer.lora_A.normal_(generator=generator)
    return decoder.double().eval()


def test_the_score_is_less_the_models_own_loss(decoder, batch):
    with torch.no_grad():
        output = decoder(**batch)
    found = negative_cross_entropy(output.logits, batch["labels"])
    assert found.tolist() == pytest.approx([-output.loss.item()], abs=1e-6)
    twice = negative_cross_entropy(output.logits.repeat(2, 1, 1), batch["labels"], 2)
    assert twice.tolist() == pytest.approx([-output.loss.item()] * 2, abs=1e-6)


@pytest.mark.parametrize("copies", [1, 3])
def test_replayed_scores_of_answers_are_the_plain_ones(adapted, batch, copies):
    plain, replayed = plain_scores(adapted, batch), replayed_scores(adapted, batch, copies=copies)
    assert plain.keys() == replayed.keys()
    for name, row in plain.items():
        assert row.abs().max() > 1e-4
        torch.testing.assert_close(replayed[name], row, atol=1e-9, rtol=0)
