"""The joint minimiser of bottleneck dropout: stationary, unbeaten, and a shrinkage of singular values."""

import pytest
import torch

from allora_lab.theory.dropout_bottleneck import (
    bottleneck_optimum,
    equalising_rotation,
    shrunk_singular_values,
)
from allora_lab.theory.dropout_ols import bottleneck_dropout, expected_loss, penalty, plain_loss
from allora_lab.theory.dropout_optimum import input_optimum, least_squares

N, D, C, R = 12, 4, 5, 3


@pytest.fixture
def data(rng):
    X = torch.randn(N, D, generator=rng, dtype=torch.float64) * torch.tensor([3.0, 1, 0.5, 0.2])
    return X, 2 * torch.randn(N, C, generator=rng, dtype=torch.float64)


def shrunk(values, keep, r):
    return shrunk_singular_values(torch.tensor(values, dtype=torch.float64), keep, r).tolist()


def test_shrinkage_by_hand():
    # k = 1, r = 2: both kept would need θ = 4/4 = 1, which leaves nothing of 1; one: θ = 3/3
    assert shrunk([3.0, 1.0], 0.5, 2) == [2.0, 0.0]
    assert shrunk([3.0, 1.0], 0.5, 1) == [1.5, 0.0]
    assert shrunk([3.0, 2.0], 0.5, 2) == [1.75, 0.75]  # θ = 5/4
    assert shrunk([3.0, 2.0, 1.0], 1.0, 2) == [3.0, 2.0, 0.0]
    assert shrunk([0.0, 0.0], 0.5, 2) == [0.0, 0.0]


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_shrinkage_minimises_its_objective(keep, rng):
    s = torch.tensor([4.0, 2.5, 2.0, 0.3, 0.1], dtype=torch.float64)
    k, r = (1 - keep) / keep, 4

    def objective(p):
        return (s - p).square().sum() + k / r * p.sum().square()

    best = shrunk_singular_values(s, keep, r)
    for _ in range(500):
        other = (best + 0.1 * torch.randn(5, generator=rng, dtype=torch.float64)).clamp(min=0)
        other[r:] = 0
        assert objective(other) >= objective(best)


@pytest.mark.parametrize("r", [1, 2, 3, 5, 8])
def test_the_rotation_is_orthogonal_and_levels_the_diagonal(r, rng):
    s = torch.rand(r, generator=rng, dtype=torch.float64).square()
    Q = equalising_rotation(s)
    torch.testing.assert_close(Q.T @ Q, torch.eye(r, dtype=torch.float64))
    torch.testing.assert_close((Q.T @ s.diag() @ Q).diagonal(), s.mean().expand(r))


@pytest.mark.parametrize("s", [[0.0, 0.0, 0.0], [2.0, 2.0, 2.0], [5.0, 0.0, 0.0]])
def test_the_rotation_of_ties_and_zeros(s):
    s = torch.tensor(s, dtype=torch.float64)
    Q = equalising_rotation(s)
    torch.testing.assert_close((Q.T @ s.diag() @ Q).diagonal(), s.mean().expand(3))


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.95])
def test_the_joint_minimiser_is_stationary_and_no_descent_gets_below_it(data, keep, rng):
    X, Y = data
    A, B = (f.clone().requires_grad_() for f in bottleneck_optimum(X, Y, keep, R))
    least = expected_loss(bottleneck_dropout(X, Y, A, B), keep)
    least.backward()
    assert max(A.grad.abs().max(), B.grad.abs().max()) < 1e-9
    reached = []
    for _ in range(3):
        A = torch.randn(R, D, generator=rng, dtype=torch.float64).requires_grad_()
        B = torch.randn(C, R, generator=rng, dtype=torch.float64).requires_grad_()
        optimizer = torch.optim.LBFGS([A, B], max_iter=400, line_search_fn="strong_wolfe")

        def closure(A=A, B=B, optimizer=optimizer):
            optimizer.zero_grad()
            loss = expected_loss(bottleneck_dropout(X, Y, A, B), keep)
            loss.backward()
            return loss

        optimizer.step(closure)
        reached.append(closure().item())
    assert min(reached) >= least.item() - 1e-9
    assert min(reached) == pytest.approx(least.item(), rel=1e-4)


def test_the_penalty_is_the_squared_nuclear_norm_over_r(data, rng):
    X, Y = data
    A, B = bottleneck_optimum(X, Y, 0.6, R)
    nuclear = torch.linalg.matrix_norm(X @ A.T @ B.T, "nuc")
    torch.testing.assert_close(penalty(bottleneck_dropout(X, Y, A, B)), nuclear**2 / R)
    other = torch.randn(R, R, generator=rng, dtype=torch.float64)
    same_product = bottleneck_dropout(X, Y, other @ A, B @ torch.linalg.inv(other))
    torch.testing.assert_close(plain_loss(same_product), plain_loss(bottleneck_dropout(X, Y, A, B)))
    assert penalty(same_product) > 1.01 * nuclear**2 / R


def test_B_is_also_the_minimiser_for_this_A(data):
    X, Y = data
    A, B = bottleneck_optimum(X, Y, 0.7, R)
    torch.testing.assert_close(B.T, input_optimum(X @ A.T, Y, 0.7))


def test_without_dropout_it_is_the_best_fit_of_rank_r(data):
    X, Y = data
    A, B = bottleneck_optimum(X, Y, 1.0, 2)
    fit = X @ least_squares(X, Y)
    U, s, Vt = torch.linalg.svd(fit, full_matrices=False)
    torch.testing.assert_close(X @ A.T @ B.T, (U[:, :2] * s[:2]) @ Vt[:2])


def test_strong_dropout_lowers_the_rank_which_no_ridge_does(data):
    X, Y = data
    ranks = [
        int((torch.linalg.svdvals(X @ A.T @ B.T) > 1e-9).sum())
        for A, B in (bottleneck_optimum(X, Y, keep, 4) for keep in (0.99, 0.5, 0.05))
    ]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] == 4 > ranks[-1]


def test_a_rank_out_of_range_is_refused(data):
    with pytest.raises(ValueError, match=r"r must be at most min\(d, c\) = 4, got 5"):
        bottleneck_optimum(*data, 0.5, 5)
    with pytest.raises(ValueError, match="r must be at least 1"):
        bottleneck_optimum(*data, 0.5, 0)
