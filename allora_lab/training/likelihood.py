"""How likely a decoder finds answers, and which of several it finds likeliest."""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from allora_lab.data.answers import IGNORED, EncodedAnswers, encode_pairs
from allora_lab.data.batches import collate
from allora_lab.data.prompts import Prompt


@torch.inference_mode()
def answer_log_likelihoods(
    model: PreTrainedModel, split: EncodedAnswers, batch_size: int = 16
) -> list[float]:
    """Return log p(answer | prompt) of every row, in nats: the sum over the answer's tokens.

    Rows of like length share a batch; the model is left in the mode it was in.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    order = sorted(range(len(split)), key=split.lengths.__getitem__)
    found = [0.0] * len(split)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = {k: v.to(device) for k, v in collate(split, rows).items()}
        labels = batch.pop("labels")[:, 1:]  # (rows, tokens - 1): token t is predicted at t - 1
        logits = model(**batch, use_cache=False).logits[:, :-1].float()
        losses = nn.functional.cross_entropy(
            logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
        )
        for row, value in zip(rows, (-losses.sum(dim=1)).tolist(), strict=True):
            found[row] = value
    model.train(was_training)
    return found


def answer_loss(model: PreTrainedModel, split: EncodedAnswers) -> float:
    """Return the mean cross-entropy of the answers' tokens, in nats."""
    tokens = sum(
        length - start for length, start in zip(split.lengths, split.answer_from, strict=True)
    )
    return -sum(answer_log_likelihoods(model, split)) / tokens


def likeliest_options(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    max_length: int,
) -> list[str]:
    """Return of every prompt the option whose log-likelihood is highest, of equals the first.

    Log-likelihoods are sums over tokens, not means: the options of one question differ in a word.
    """
    pairs = [(prompt.text, option) for prompt in prompts for option in prompt.options]
    values = iter(answer_log_likelihoods(model, encode_pairs(tokenizer, pairs, max_length)))
    chosen = []
    for prompt in prompts:
        likelihoods = [next(values) for _ in prompt.options]
        chosen.append(prompt.options[likelihoods.index(max(likelihoods))])
    return chosen
