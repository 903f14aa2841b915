"""The bound Std/√N, the normal limit, and appendix A's middle line."""

import math

import pytest
import torch

from allora_lab.theory.dropout_ols import (
    every_mask,
    expected_loss,
    loss_variance,
    losses_of,
    output_dropout,
    sampled_losses,
)
from allora_lab.theory.mean_of_draws import (
    NORMAL_FACTOR,
    error_bound,
    middle_line,
    middle_line_as_printed,
    normal_error,
    sampled_error,
)

KEEP = 0.7


@pytest.fixture
def fit(rng):
    X, Y, W = (
        torch.randn(*s, generator=rng, dtype=torch.float64) for s in ((3, 2), (3, 4), (2, 4))
    )
    return output_dropout(X, Y, W)


@pytest.fixture
def std(fit):
    return loss_variance(fit, KEEP).sqrt().item()


def test_the_numbers_by_hand():
    assert error_bound(6.0, 9) == 2
    assert normal_error(6.0, 9) == pytest.approx(2 * 0.7978845608)
    # means of (1, 5) and (2, 2) are 3 and 2; from 4 they are 1 and 2 away
    error, standard_error = sampled_error(torch.tensor([1.0, 5, 2, 2, 9]).double(), 4.0, 2)
    assert error == 1.5
    assert standard_error == pytest.approx(0.5)


def test_the_factor_is_the_mean_size_of_a_normal_number(rng):
    sizes = torch.randn(200_000, generator=rng, dtype=torch.float64).abs()
    assert sizes.mean().item() == pytest.approx(NORMAL_FACTOR, abs=4 * 0.603 / 200_000**0.5)


def test_the_bound_holds_exactly_for_one_and_two_draws(fit, std):
    V, p = every_mask(3, 4, KEEP)
    errors = losses_of(fit, V) - expected_loss(fit, KEEP)
    one = (p @ errors.abs()).item()
    two = (p @ ((errors[:, None] + errors).abs() / 2) @ p).item()
    assert one < error_bound(std, 1)
    assert two < error_bound(std, 2)
    assert two < one


def test_the_error_falls_as_one_over_root_n_and_meets_the_normal_limit(fit, std, rng):
    losses = sampled_losses(fit, KEEP, 2**18, rng)
    expectation = expected_loss(fit, KEEP).item()
    sizes = (4, 16, 64, 256)
    found = [sampled_error(losses, expectation, n) for n in sizes]
    for n, (error, standard_error) in zip(sizes, found, strict=True):
        assert error < error_bound(std, n)
        if n >= 64:
            assert abs(error - normal_error(std, n)) < 4 * standard_error
    slope = math.log(found[-1][0] / found[0][0]) / math.log(sizes[-1] / sizes[0])
    assert slope == pytest.approx(-0.5, abs=0.02)


def test_the_bound_is_a_quarter_too_large():
    assert error_bound(1.0, 50) / normal_error(1.0, 50) == pytest.approx(1.2533, abs=1e-4)


@pytest.mark.parametrize("n_draws", [1, 7, 1000])
def test_the_middle_line_put_right_is_the_variance_over_n(fit, n_draws):
    V, p = every_mask(3, 4, KEEP)
    losses = losses_of(fit, V)
    square, fourth = (p @ losses).item(), (p @ losses.square()).item()
    variance = loss_variance(fit, KEEP).item() / n_draws
    assert middle_line(square, fourth, n_draws) == pytest.approx(variance, rel=1e-9)


def test_the_middle_line_as_printed_has_no_root():
    assert middle_line_as_printed(8.0, 4) == 2 - 64
    # nor does the fourth power alone save it: E||Z||⁴/N - E[||Z||²]² is below 0 for large N
    assert 80 / 4 - 8**2 < 0 < middle_line(8.0, 80.0, 4)


def test_too_few_draws_for_two_groups_are_refused():
    with pytest.raises(ValueError, match="fewer than two groups of 3: draw at least 6"):
        sampled_error(torch.zeros(5).double(), 0.0, 3)
    for call in (error_bound, normal_error, middle_line_as_printed):
        with pytest.raises(ValueError, match="n_draws must be at least 1"):
            call(1.0, 0)
