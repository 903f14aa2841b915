import pytest
import torch

from allora_lab.data.batches import EncodedSplit, batch_at, collate, encode, epoch_batches
from allora_lab.data.text import Split
from allora_lab.models.load import load_model

LENGTHS = tuple(torch.randint(3, 40, (103,), generator=torch.Generator().manual_seed(0)).tolist())
SPLIT = EncodedSplit(tuple((row + 5,) * n for row, n in enumerate(LENGTHS)), (0,) * 103, 0)


def rows_of(batch):
    return [int(first) - 5 for first in batch["input_ids"][:, 0]]


def test_padding_and_mask_by_hand():
    split = EncodedSplit(((7, 8), (9, 9, 9), (4,)), (1, 0, 1), pad_token_id=2)
    batch = collate(split, [0, 1])
    assert batch["input_ids"].tolist() == [[7, 8, 2], [9, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["labels"].tolist() == [1, 0]


def test_a_batch_depends_on_seed_and_step_alone():
    steps = [0, 5, 13, 2, 13, 0]
    asked = [rows_of(batch_at(SPLIT, step=s, batch_size=8, seed=1)) for s in steps]
    epoch_batches.cache_clear()
    again = {s: rows_of(batch_at(SPLIT, step=s, batch_size=8, seed=1)) for s in sorted(set(steps))}
    assert asked == [again[s] for s in steps]
    assert asked[0] != rows_of(batch_at(SPLIT, step=0, batch_size=8, seed=2))


def test_an_epoch_has_every_row_at_most_once_and_misses_less_than_a_batch():
    first = [rows_of(batch_at(SPLIT, step=s, batch_size=8, seed=1)) for s in range(103 // 8)]
    seen = [row for rows in first for row in rows]
    assert len(seen) == len(set(seen)) == 96
    second = [rows_of(batch_at(SPLIT, step=s + 12, batch_size=8, seed=1)) for s in range(12)]
    assert first != second


def padding(batches):
    padded = sum(len(b) * max(LENGTHS[row] for row in b) for b in batches)
    return padded / sum(LENGTHS[row] for b in batches for row in b) - 1


def test_batches_of_like_length_waste_less_than_half_of_what_random_ones_do():
    order = torch.randperm(103, generator=torch.Generator().manual_seed(0)).tolist()
    random = [order[i : i + 8] for i in range(0, 96, 8)]
    assert padding(epoch_batches(LENGTHS, 8, 1, 0, 16)) < padding(random) / 2


def test_a_wider_pool_wastes_less_and_a_pool_of_one_batch_does_not_sort():
    waste = [padding(epoch_batches(LENGTHS, 8, 1, 0, pool)) for pool in (1, 2, 4, 13)]
    assert waste == sorted(waste, reverse=True)
    assert waste[0] > 2 * waste[-1]
    unsorted = epoch_batches(LENGTHS, 8, 1, 0, 1)
    order = torch.randperm(103, generator=torch.Generator().manual_seed(1_000_003)).tolist()
    assert {frozenset(order[i : i + 8]) for i in range(0, 96, 8)} == set(map(frozenset, unsorted))


def test_a_set_smaller_than_a_batch_is_one_batch():
    small = EncodedSplit(SPLIT.token_ids[:3], (0, 0, 0), 0)
    for step in (0, 1):
        batch = batch_at(small, step=step, batch_size=8, seed=0)
        assert sorted(rows_of(batch)) == [0, 1, 2]


@pytest.mark.parametrize("max_length", [6, 64])
def test_sentences_are_encoded_and_cut(max_length):
    tokenizer = load_model("minilm").tokenizer
    encoded = encode(
        tokenizer, Split(("a fine, fine film about trains", "dull"), (1, 0)), max_length
    )
    words = tokenizer.convert_ids_to_tokens(encoded.token_ids[0])
    assert words[0] == "[CLS]"
    assert words[-1] == "[SEP]"
    assert words[1:4] == ["a", "fine", ","]
    assert encoded.lengths == (min(9, max_length), 3)


def test_the_longest_sentences_are_seen_too():
    longest = max(range(103), key=LENGTHS.__getitem__)
    seen = {row for e in range(8) for batch in epoch_batches(LENGTHS, 8, 1, e, 16) for row in batch}
    assert longest in seen
