"""Merged moments are those of the whole stream, in any order and about any shift."""

import pytest
import torch

from allora_lab.theory.streaming_moments import Moments


@pytest.fixture
def arrays(rng):
    return 1e3 + torch.randn(23, 4, 3, generator=rng, dtype=torch.float64)


def test_moments_by_hand():
    moments = Moments.of_stack(torch.tensor([[1.0], [2.0], [6.0]]))
    assert (moments.count, moments.mean.item(), moments.squares.item()) == (3, 3.0, 14.0)
    assert moments.variance().item() == 7.0


@pytest.mark.parametrize("cut", [1, 9, 22])
def test_two_parts_merge_to_the_whole(arrays, cut):
    parts = Moments.of_stack(arrays[:cut]).merge(Moments.of_stack(arrays[cut:]))
    whole = Moments.of_stack(arrays)
    assert parts.count == 23
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(parts.squares, whole.squares, rtol=1e-12, atol=0)
    torch.testing.assert_close(parts.variance(), arrays.var(dim=0), rtol=1e-12, atol=0)


def test_merging_is_associative_and_commutative(arrays):
    a, b, c = (Moments.of_stack(part) for part in arrays.split([5, 7, 11]))
    left, right = a.merge(b).merge(c), c.merge(b.merge(a))
    torch.testing.assert_close(left.mean, right.mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(left.squares, right.squares, rtol=1e-12, atol=0)


def test_sums_about_any_shift_near_the_mean_give_the_same_moments(arrays):
    for shift in (arrays[0], arrays.mean(0), torch.full_like(arrays[0], 999.0)):
        off = arrays - shift
        moments = Moments.of_sums(len(arrays), shift, off.sum(0), (off * off).sum(0))
        torch.testing.assert_close(moments.mean, arrays.mean(0), rtol=1e-14, atol=0)
        torch.testing.assert_close(moments.std(), arrays.std(0), rtol=1e-11, atol=0)


def test_one_array_has_no_variance():
    with pytest.raises(ValueError, match="must be at least 2, got 1"):
        Moments.of_stack(torch.ones(1, 2)).variance()
