"""Batches of texts of like length, each a function of (seed, step) alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from allora_lab.checks import require_at_least
from allora_lab.data.answers import EncodedAnswers, encode_answers
from allora_lab.data.prompts import PromptSplit
from allora_lab.data.text import Split

LENGTH_POOL = 16  # batches that are sorted by length together: less padding, yet well mixed


@dataclass(frozen=True)
class EncodedSplit:
    """Token ids of each sentence, its label, the id that pads, and whether the sentence was cut."""

    token_ids: tuple[tuple[int, ...], ...]
    labels: tuple[int, ...]
    pad_token_id: int
    was_cut: tuple[bool, ...] = ()

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self.labels)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Return the number of tokens of each sentence."""
        return tuple(map(len, self.token_ids))

    def part(self, start: int, stop: int) -> "EncodedSplit":
        """Return the rows from `start` to before `stop`."""
        ids, labels = self.token_ids[start:stop], self.labels[start:stop]
        return EncodedSplit(ids, labels, self.pad_token_id, self.was_cut[start:stop])

    def targets(self, rows: Sequence[int], _longest: int) -> Tensor:
        """Return labels (batch,)."""
        return torch.tensor([self.labels[row] for row in rows])


Encoded = EncodedSplit | EncodedAnswers


def halves(split: Encoded) -> tuple[Encoded, Encoded]:
    """Return the first half of a split, the larger by one where it is odd, and the second.

    Raises ValueError when there are not two sentences to part.
    """
    require_at_least("the number of sentences to part in halves", len(split), 2)
    middle = (len(split) + 1) // 2
    return split.part(0, middle), split.part(middle, len(split))


def encode(
    tokenizer: PreTrainedTokenizerBase, split: Split | PromptSplit, max_length: int
) -> Encoded:
    """Return a split as token ids: sentences cut at `max_length`, prompts as `encode_answers`.

    Raises ValueError when the split is empty.
    """
    if not len(split):
        raise ValueError("the split has no row to learn from or to score: add rows to the data set")
    if isinstance(split, PromptSplit):
        return encode_answers(tokenizer, split, max_length)
    encoded = tokenizer(list(split.texts), truncation=True, max_length=max_length)["input_ids"]
    full = [len(ids) == max_length for ids in encoded]
    at_limit = [text for text, is_full in zip(split.texts, full, strict=True) if is_full]
    whole = tokenizer(at_limit, verbose=False)["input_ids"] if at_limit else ()
    lengths = iter(map(len, whole))
    was_cut = tuple(is_full and next(lengths) > max_length for is_full in full)
    return EncodedSplit(tuple(map(tuple, encoded)), split.labels, tokenizer.pad_token_id, was_cut)


def collate(split: Encoded, rows: Sequence[int]) -> dict[str, Tensor]:
    """Return input_ids, attention_mask (batch, tokens) and labels, padded on the right.

    Labels are (batch,) classes of sentences, (batch, tokens) ids of answers.
    """
    ids = [split.token_ids[row] for row in rows]
    longest = max(map(len, ids))
    padded = [[*i, *[split.pad_token_id] * (longest - len(i))] for i in ids]
    mask = [[1] * len(i) + [0] * (longest - len(i)) for i in ids]
    return {
        "input_ids": torch.tensor(padded),
        "attention_mask": torch.tensor(mask),
        "labels": split.targets(rows, longest),
    }


@lru_cache(maxsize=8)
def epoch_batches(
    lengths: tuple[int, ...], batch_size: int, seed: int, epoch: int, length_pool: int
) -> tuple[tuple[int, ...], ...]:
    """Return the batches of one epoch: every row once, but for less than a batch drawn at random.

    The rows are shuffled and cut into pools of `length_pool` batches; each pool is sorted by length
    and cut into batches; the batches are shuffled.  A set smaller than a batch is one batch.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    rows = torch.randperm(len(lengths), generator=generator).tolist()
    rows = rows[: len(rows) // batch_size * batch_size or None]  # before sorting: any row may miss
    size = length_pool * batch_size
    pools = [rows[i : i + size] for i in range(0, len(rows), size)]
    batches = [
        tuple(pool[i : i + batch_size])
        for pool in (sorted(pool, key=lengths.__getitem__) for pool in pools)
        for i in range(0, len(pool), batch_size)
    ]
    full = [batch for batch in batches if len(batch) == batch_size] or batches
    order = torch.randperm(len(full), generator=generator).tolist()
    return tuple(full[i] for i in order)


def batches_an_epoch(rows: int, batch_size: int) -> int:
    """Return how many batches hold every row once, but for less than a batch."""
    return max(1, rows // batch_size)


def batch_at(
    split: Encoded, *, step: int, batch_size: int, seed: int, length_pool: int = LENGTH_POOL
) -> dict[str, Tensor]:
    """Return the batch of `step`, the same whenever it is asked for."""
    epoch, place = divmod(step, batches_an_epoch(len(split), batch_size))
    batches = epoch_batches(split.lengths, batch_size, seed, epoch, length_pool)
    return collate(split, batches[place])
