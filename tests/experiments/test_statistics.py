"""Paired differences and adjusted p-values: numbers by hand, SciPy's own test, and coverage."""

import numpy as np
import pytest
from scipy import stats

from allora_lab.experiments.statistics import Estimate, adjusted, mean_interval, paired, pooled


def test_the_differences_1_2_and_6_by_hand():
    result = paired({0: 11.0, 1: 22.0, 2: 36.0}, {0: 10.0, 1: 20.0, 2: 30.0})
    # mean 3, variance (4 + 1 + 9) / 2 = 7; t of 2 degrees of freedom at 0.975 is 4.302653
    half = 4.302653 * (7 / 3) ** 0.5
    assert (result.n, result.wins, result.ties, result.losses) == (3, 3, 0, 0)
    assert result.mean_difference == pytest.approx(3)
    assert (result.low, result.high) == pytest.approx((3 - half, 3 + half), rel=1e-6)
    assert result.effect_size == pytest.approx(3 / 7**0.5)
    assert not result.is_constant


def test_p_is_that_of_scipys_paired_t_test_and_crosses_5_percent_with_the_interval():
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.5, 1.0, 2.0):
        ours, theirs = rng.normal(70 + shift, 1, 6), rng.normal(70, 1, 6)
        result = paired(dict(enumerate(ours.tolist())), dict(enumerate(theirs.tolist())))
        assert result.p_value == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
        assert (result.p_value < 0.05) == (not result.low <= 0 <= result.high)


def test_the_interval_covers_the_true_difference_in_95_of_100_studies():
    rng, studies, covered = np.random.default_rng(1), 1500, 0
    for _ in range(studies):
        shared = rng.normal(0, 5, 5)  # a seed's own level, which pairing removes
        ours, theirs = 1.0 + shared + rng.normal(0, 1, 5), shared + rng.normal(0, 1, 5)
        result = paired(dict(enumerate(ours.tolist())), dict(enumerate(theirs.tolist())))
        covered += result.low <= 1.0 <= result.high
    assert covered / studies == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / studies) ** 0.5)


def test_only_seeds_that_both_sides_have_count_whatever_their_order():
    result = paired({2: 5.0, 0: 1.0, 1: 3.0, 9: 99.0}, {1: 1.0, 0: 2.0, 7: -99.0, 2: 5.0})
    assert (result.n, result.wins, result.ties, result.losses) == (3, 1, 1, 1)
    assert result.mean_difference == pytest.approx((2 - 1 + 0) / 3)


@pytest.mark.parametrize("theirs", [{}, {0: 1.0}, {5: 1.0, 6: 2.0}])
def test_fewer_than_two_seeds_in_common_are_refused(theirs):
    with pytest.raises(ValueError, match="needs two seeds that both sides have"):
        paired({0: 1.0, 1: 2.0}, theirs)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match="not finite"):
        paired({0: 1.0, 1: bad}, {0: 1.0, 1: 2.0})


def test_equal_sides_are_all_ties_with_p_1():
    result = paired({0: 70.1, 1: 80.2}, {0: 70.1, 1: 80.2})
    assert (result.mean_difference, result.low, result.high) == (0, 0, 0)
    assert (result.ties, result.effect_size, result.p_value) == (2, None, 1.0)
    assert not result.is_constant


def test_a_constant_difference_has_no_effect_size_and_says_that_it_is_constant():
    # one sentence of 1,066 more for every seed: equal but for rounding
    ours = {seed: 100 * ((k + 1) / 1066) for seed, k in enumerate((301, 817, 922))}
    theirs = {seed: 100 * (k / 1066) for seed, k in enumerate((301, 817, 922))}
    assert len({ours[seed] - theirs[seed] for seed in ours}) > 1
    result = paired(ours, theirs)
    assert result.mean_difference == pytest.approx(100 / 1066)
    assert result.low == result.high == result.mean_difference
    assert (result.effect_size, result.p_value, result.is_constant) == (None, 0.0, True)


def test_rounding_alone_is_no_win():
    result = paired({0: 0.1 + 0.2, 1: 5.0, 2: 1.0}, {0: 0.3, 1: 4.0, 2: 2.0})
    assert (result.wins, result.ties, result.losses) == (1, 1, 1)


def test_pooling_averages_within_a_seed_before_it_looks_at_the_spread():
    # Two settings whose differences cancel within each seed but for 1, 2 and 3.
    easy = ({0: 60.0, 1: 70.0, 2: 80.0}, {0: 50.0, 1: 50.0, 2: 50.0})
    hard = ({0: 50.0, 1: 50.0, 2: 50.0}, {0: 58.0, 1: 66.0, 2: 74.0})
    result = pooled([easy, hard])
    assert (result.n, result.mean_difference) == (3, pytest.approx(2))
    assert result.effect_size == pytest.approx(2)  # mean 2 over a standard deviation of 1


def test_pooling_drops_a_seed_that_one_setting_lacks():
    full = ({0: 1.0, 1: 2.0, 2: 90.0}, {0: 0.0, 1: 0.0, 2: 0.0})
    short = ({0: 1.0, 1: 4.0}, {0: 0.0, 1: 0.0, 2: 0.0})
    result = pooled([full, short])
    assert (result.n, result.mean_difference) == (2, pytest.approx(2))
    with pytest.raises(ValueError, match="at least one"):
        pooled([])


def test_benjamini_hochberg_by_hand_in_the_order_given():
    # sorted .005 .01 .03 .04 times 4 / rank: .02 .02 .04 .04
    assert adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert adjusted([]) == []
    assert adjusted([0.2]) == [0.2]


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_not_adjusted(bad):
    with pytest.raises(ValueError, match="between 0 and 1"):
        adjusted([0.5, bad])


def test_a_mean_keeps_its_interval():
    mean, half = mean_interval([1.0, 2.0, 6.0])
    assert (mean, half) == pytest.approx((3, 4.302653 * (7 / 3) ** 0.5), rel=1e-6)
    with pytest.raises(ValueError, match="at least two"):
        mean_interval([1.0])


@pytest.mark.parametrize(
    ("mean", "half", "is_difference", "text"),
    [
        (76.7969, 1.3762, False, "76.8 ± 1.4"),
        (69.04, 11.7, False, "69 ± 12"),
        (76.7969, 0.0432, False, "76.797 ± 0.043"),
        (76.7969, None, False, "76.80"),
        (76.7969, 1e-14, False, "76.7969 ± 0.0000"),
        (0.2734, 0.7194, True, "+0.27 [-0.45, +0.99]"),
        (-0.39, None, True, "-0.39"),
    ],
)
def test_an_estimate_shows_two_digits_of_its_half_width(mean, half, is_difference, text):
    assert str(Estimate(mean, half, is_difference)) == text
