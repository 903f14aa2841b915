"""Prompts and answers as token ids: the loss is on the answer alone.

The ids of a prompt and of its answer are made one by one and put together, so that a prompt has the
same ids when the model learns from it and when it goes on from it.  A prompt that is too long loses
its beginning, for the question stands at its end; an answer loses its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from allora_lab.data.prompts import PromptSplit

IGNORED = -100  # the label that a cross-entropy leaves out


@dataclass(frozen=True)
class EncodedAnswers:
    """Token ids of prompt and answer, where the answer starts in them, the id that pads, what was cut."""

    token_ids: tuple[tuple[int, ...], ...]
    answer_from: tuple[int, ...]
    pad_token_id: int
    was_cut: tuple[bool, ...] = ()

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self.token_ids)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Return the number of tokens of each prompt with its answer."""
        return tuple(map(len, self.token_ids))

    def part(self, start: int, stop: int) -> "EncodedAnswers":
        """Return the rows from `start` to before `stop`."""
        ids, starts = self.token_ids[start:stop], self.answer_from[start:stop]
        return EncodedAnswers(ids, starts, self.pad_token_id, self.was_cut[start:stop])

    def targets(self, rows: Sequence[int], longest: int) -> Tensor:
        """Return labels (batch, tokens): the ids of the answer, -100 elsewhere."""
        labels = torch.full((len(rows), longest), IGNORED)
        for place, row in enumerate(rows):
            ids, start = self.token_ids[row], self.answer_from[row]
            labels[place, start : len(ids)] = torch.tensor(ids[start:])
        return labels


def prompt_ids(tokenizer: PreTrainedTokenizerBase, text: str, room: int | None = None) -> list[int]:
    """Return the ids of a prompt without the end-of-text token; its last `room` if it has more."""
    ids = tokenizer(text)["input_ids"]
    if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:  # some tokenizers end every text
        ids = ids[:-1]
    return ids if room is None else ids[-room:]


def answer_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of an answer and the end-of-text token, by which a model says that it is done.

    Raises ValueError when the tokenizer has no such token.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "the tokenizer has no end-of-text token, so an answer could not end: set eos_token in "
            "its tokenizer_config.json"
        )
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def encode_answers(
    tokenizer: PreTrainedTokenizerBase, split: PromptSplit, max_length: int
) -> EncodedAnswers:
    """Return prompts with their answers as token ids, at most `max_length` together.

    Raises ValueError when `max_length` leaves a prompt no token.
    """
    return encode_pairs(tokenizer, [(p.text, p.answer) for p in split.prompts], max_length)


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]], max_length: int
) -> EncodedAnswers:
    """Return pairs of prompt and answer as token ids, as `encode_answers`."""
    if max_length < 2:
        raise ValueError(
            f"max_length must be 2 or more, a token of the prompt and one of the answer, got "
            f"{max_length}"
        )
    ids, starts, was_cut = [], [], []
    for text, answer in pairs:
        before, after = prompt_ids(tokenizer, text), answer_ids(tokenizer, answer)
        was_cut.append(len(before) + len(after) > max_length)
        after = after[: max_length - 1]
        before = before[-(max_length - len(after)) :]
        ids.append((*before, *after))
        starts.append(len(before))
    return EncodedAnswers(tuple(ids), tuple(starts), tokenizer.pad_token_id, tuple(was_cut))
