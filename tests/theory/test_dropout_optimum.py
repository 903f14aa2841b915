"""The minimisers, the ridge they equal when X is whitened, and that none does when it is not."""

import pytest
import torch

from allora_lab.theory.dropout_ols import (
    bottleneck_dropout,
    expected_loss,
    input_dropout,
    output_dropout,
)
from allora_lab.theory.dropout_optimum import (
    equal_ridge,
    input_optimum,
    least_squares,
    nearest_ridge,
    output_optimum,
    ridge,
    shares_kept,
)

N, D, C, R = 12, 4, 5, 3


@pytest.fixture
def data(rng):
    X = torch.randn(N, D, generator=rng, dtype=torch.float64) * torch.tensor([3.0, 1, 0.5, 0.2])
    return X, torch.randn(N, C, generator=rng, dtype=torch.float64)


def whitened(X, c):
    return torch.linalg.qr(X).Q * c**0.5


def gradient(build, X, Y, W, keep):
    W = W.clone().requires_grad_()
    expected_loss(build(X, Y, W), keep).backward()
    return W.grad


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(
    ("build", "optimum"), [(output_dropout, output_optimum), (input_dropout, input_optimum)]
)
def test_the_gradient_of_the_expected_loss_is_zero_at_the_minimiser(data, build, optimum, keep):
    X, Y = data
    W = optimum(X, Y, keep)
    assert gradient(build, X, Y, W, keep).abs().max() < 1e-11
    assert gradient(build, X, Y, 1.1 * W, keep).abs().max() > 0.1  # and not elsewhere


def test_the_minimiser_of_B_for_a_fixed_A_is_that_of_input_dropout(data, rng):
    X, Y = data
    A = torch.randn(R, D, generator=rng, dtype=torch.float64)
    B = input_optimum(X @ A.T, Y, 0.6).T.clone().requires_grad_()
    expected_loss(bottleneck_dropout(X, Y, A, B), 0.6).backward()
    assert B.grad.abs().max() < 1e-11


def test_one_column_by_hand():
    X, Y = torch.tensor([[1.0], [2.0]]).double(), torch.tensor([[3.0], [6.0]]).double()
    assert output_optimum(X, Y, 0.5).item() == pytest.approx(1.5)  # half of 3
    assert input_optimum(X, Y, 0.5).item() == pytest.approx(1.5)  # 15 / (5 + 5)
    assert ridge(X, Y, 5.0).item() == pytest.approx(1.5)


def test_keeping_everything_gives_least_squares(data):
    expected = torch.linalg.lstsq(*data).solution
    for optimum in (output_optimum, input_optimum):
        torch.testing.assert_close(optimum(*data, 1.0), expected)
    torch.testing.assert_close(least_squares(*data), expected)


def test_the_printed_minimiser_has_no_shape_or_is_none(data, rng):
    X, Y = data
    inverse = torch.linalg.inv(X.T @ X)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        inverse @ (Y.T @ X)
    square = torch.randn(N, D, generator=rng, dtype=torch.float64)
    assert gradient(output_dropout, X, square, 0.5 * inverse @ square.T @ X, 0.5).norm() > 1


@pytest.mark.parametrize("keep", [0.2, 0.9])
@pytest.mark.parametrize("optimum", [output_optimum, input_optimum])
def test_whitened_dropout_is_the_ridge_of_the_paper(data, keep, optimum):
    X, Y, c = whitened(data[0], 7.0), data[1], 7.0
    lam = equal_ridge(c, keep)
    assert keep == pytest.approx(c / (c + lam))
    torch.testing.assert_close(optimum(X, Y, keep), ridge(X, Y, lam))
    found, distance = nearest_ridge(X, Y, optimum(X, Y, keep))
    assert found == pytest.approx(lam, rel=1e-4)
    assert distance < 1e-4


@pytest.mark.parametrize("optimum", [output_optimum, input_optimum])
def test_without_whitening_no_ridge_reproduces_dropout(data, optimum):
    X, Y = data
    W = optimum(X, Y, 0.6)
    lam, distance = nearest_ridge(X, Y, W)
    assert distance > 0.05
    tried = [
        ((W - ridge(X, Y, t)).norm() / W.norm()).item() for t in torch.logspace(-5, 4, 400).tolist()
    ]
    assert min(tried) == pytest.approx(distance, rel=1e-3)
    assert min(tried) > distance - 1e-9
    assert (W - ridge(X, Y, lam)).norm() / W.norm() == pytest.approx(distance)


def test_columns_of_one_length_are_enough_for_input_dropout_and_not_for_output(data):
    X = data[0] / data[0].norm(dim=0) * 2.0  # correlated still
    gram = X.T @ X
    assert (gram - gram.diagonal().diag()).abs().max() > 0.5
    assert nearest_ridge(X, data[1], input_optimum(X, data[1], 0.6))[1] < 1e-4
    assert nearest_ridge(X, data[1], output_optimum(X, data[1], 0.6))[1] > 0.05


@pytest.mark.parametrize("lam", [1e-3, 0.7, 300.0])
def test_the_nearest_ridge_of_a_ridge_is_itself(data, lam):
    found, distance = nearest_ridge(*data, ridge(*data, lam))
    assert found == pytest.approx(lam, rel=1e-3)
    assert distance < 1e-3


def test_shares_of_ridge_and_of_output_dropout(data):
    X, Y = data
    h, U = torch.linalg.eigh(X.T @ X)
    ols = least_squares(X, Y)
    torch.testing.assert_close(shares_kept(ridge(X, Y, 2.0), ols, U), h / (h + 2))
    kept = shares_kept(output_optimum(X, Y, 0.3), ols, U)
    torch.testing.assert_close(kept, torch.full_like(h, 0.3))
