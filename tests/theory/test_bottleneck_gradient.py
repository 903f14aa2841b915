"""Gradients of the expected loss under bottleneck dropout: against autograd, every mask, the print."""

import pytest
import torch

from allora_lab.theory.bottleneck_gradient import (
    as_printed,
    dropout_pull,
    expected_gradients,
    strengths,
)
from allora_lab.theory.dropout_ols import (
    bottleneck_dropout,
    dropout_strength,
    every_mask,
    expected_loss,
    losses_of,
    penalty,
)

N, D, C, RANK = 3, 6, 5, 4


@pytest.fixture
def case(rng):
    shapes = ((N, D), (N, C), (RANK, D), (C, RANK))
    return [torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in shapes]


def by_autograd(loss, A, B):
    A, B = A.clone().requires_grad_(), B.clone().requires_grad_()
    return torch.autograd.grad(loss(A, B), (A, B))


@pytest.mark.parametrize("keep", [0.3, 0.95, 1.0])
def test_they_are_the_gradients_of_the_expected_loss(case, keep):
    X, R, A, B = case
    found = expected_gradients(X, R, A, B, keep)
    wanted = by_autograd(lambda a, b: expected_loss(bottleneck_dropout(X, R, a, b), keep), A, B)
    torch.testing.assert_close(found, wanted)


def test_they_are_the_mean_over_every_mask(case):
    X, R, A, B = case
    V, p = every_mask(N, RANK, 0.7)
    wanted = by_autograd(lambda a, b: p @ losses_of(bottleneck_dropout(X, R, a, b), V), A, B)
    torch.testing.assert_close(expected_gradients(X, R, A, B, 0.7), wanted)


def test_the_pull_is_the_gradient_of_the_penalty_alone(case):
    X, R, A, B = case
    k = dropout_strength(0.6)
    wanted = by_autograd(lambda a, b: k * penalty(bottleneck_dropout(X, R, a, b)), A, B)
    torch.testing.assert_close(dropout_pull(X, A, B, 0.6), wanted)


@pytest.mark.parametrize("keep", [0.3, 0.95])
def test_the_papers_print_is_half_of_them_once_columns_are_meant(case, keep):
    X, R, A, B = case
    printed_A, printed_B = as_printed(X, R, A.T, B.T, keep)
    on_A, on_B = expected_gradients(X, R, A, B, keep)
    torch.testing.assert_close(2 * printed_A.T, on_A)
    torch.testing.assert_close(2 * printed_B.T, on_B)
    rows = (X @ A.T).square().sum(dim=1)
    assert len(rows) == N != RANK  # the norms of the rows, as printed, are no r x r matrix


@pytest.mark.parametrize("keep", [0.3, 0.95])
def test_at_the_start_dropout_is_strong_on_B_and_pulls_neither(case, keep):
    X, R, A, B = case
    start = torch.zeros_like(B)
    on_A, on_B = strengths(X, A, start, keep)
    assert on_A.abs().max() == 0
    assert (on_B > 0).all()
    for pull in dropout_pull(X, A, start, keep):
        assert pull.abs().max() == 0
    without = expected_gradients(X, R, A, start, 1.0)
    torch.testing.assert_close(expected_gradients(X, R, A, start, keep), without)
    assert without[1].norm() > 0  # the step is not zero: it is LoRA's


def test_by_hand():
    one = torch.ones(1, 1, dtype=torch.float64)
    # R = 5, X = 1, A = 2, B = 3, keep 1/2: k = 1; L = (5 - 6)² + 4 · 9 = 37
    on_A, on_B = expected_gradients(one, 5 * one, 2 * one, 3 * one, 0.5)
    assert on_A.item() == -2 * 3 * (5 - 6) + 2 * 9 * 2
    assert on_B.item() == -2 * 2 * (5 - 6) + 2 * 3 * 4
