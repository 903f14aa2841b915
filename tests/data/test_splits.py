"""Splits are fixed, share no text, and do not depend on any run's seed or the input's order."""

import random
import subprocess
import sys

import pytest

from allora_lab.data.splits import Split, own_splits, split_by_hash

PAIRS = [(f"text {i}", i % 3) for i in range(230)]


def texts(*splits: Split) -> list[str]:
    return [text for split in splits for text in split.texts]


def test_a_split_needs_one_label_a_text_and_gives_its_first_ones():
    split = Split(("a", "b", "c"), (0, 1, 2))
    assert len(split) == 3
    assert split.first(2) == Split(("a", "b"), (0, 1))
    assert split.first(None) == split.first(9) == split
    with pytest.raises(ValueError, match="got 2 texts and 1 labels"):
        Split(("a", "b"), (0,))
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        split.first(0)


def test_eight_one_and_one_tenth_cover_every_text_once_with_its_label():
    splits = split_by_hash(PAIRS)
    assert [len(split) for split in splits] == [184, 23, 23]
    found = {pair for split in splits for pair in zip(split.texts, split.labels, strict=True)}
    assert found == set(PAIRS)


def test_the_shuffle_depends_on_neither_input_order_nor_seeds_nor_hash_randomisation():
    shuffled = random.Random(5).sample(PAIRS, len(PAIRS))
    assert split_by_hash(shuffled) == split_by_hash(PAIRS)
    program = (
        "from allora_lab.data.splits import split_by_hash;"
        "print(split_by_hash((f'text {i}', i % 3) for i in range(230))[1].texts)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(split_by_hash(PAIRS)[1].texts)


def test_the_first_texts_are_a_fair_sample_even_of_a_set_sorted_by_label():
    train, _, _ = own_splits([(f"t{i}", i // 500) for i in range(1000)], [], [("x", 0)])
    ones = sum(train.first(100).labels)
    assert abs(ones - 50) < 4 * 4.75  # hypergeometric standard error of 100 from 1000


def test_of_a_text_that_stands_twice_the_first_label_is_kept_and_empty_ones_go():
    pairs = [("same", 2), (" same ", 0), ("", 1), ("  ", 1), ("other", 1)]
    train, dev, test = split_by_hash(pairs)
    assert sorted(zip(train.texts, train.labels, strict=True)) == [("other", 1), ("same", 2)]
    assert len(dev) == len(test) == 0


def test_a_text_in_two_own_splits_stays_in_test_before_dev_before_train():
    train, dev, test = own_splits(
        [("a", 0), ("b", 0), ("c", 0), ("d", 0)], [("b", 1), ("c", 1)], [("c", 2), ("e", 2)]
    )
    assert (sorted(train.texts), sorted(dev.texts)) == (["a", "d"], ["b"])
    assert sorted(zip(test.texts, test.labels, strict=True)) == [("c", 2), ("e", 2)]


def test_a_missing_dev_split_takes_one_train_text_in_ten():
    train, dev, test = own_splits(PAIRS, None, [("text 7", 0), ("new", 1)])
    assert (len(train), len(dev), len(test)) == (207, 22, 2)
    assert len(set(texts(train, dev, test))) == 231
    assert all(label == int(text[5:]) % 3 for text, label in zip(*_columns(dev), strict=True))


def _columns(split: Split) -> tuple[tuple[str, ...], tuple[int, ...]]:
    return split.texts, split.labels
