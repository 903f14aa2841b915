"""The convex problem in V: derivatives, layout, rank, spectrum and gradient flow."""

import math

import jaxtyping
import pytest
import torch

from allora_lab.theory import hessian as th
from allora_lab.theory.hessian import Regression

N, D_IN, D_OUT = 7, 5, 3  # all different, so that a transposed matrix cannot pass


def normal(rng, *shape):
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def problem(rng, n=N, d_in=D_IN, d_out=D_OUT):
    return Regression(normal(rng, n, d_in), normal(rng, d_out, d_in), normal(rng, n, d_out))


def euler(task, V, time, steps):
    """Integrate dV/dt = -∇L by plain steps of gradient descent."""
    for _ in range(steps):
        V = V - time / steps * th.gradient(task, V)
    return V


def test_loss_gradient_and_hessian_by_hand():
    # X = [1 2], W + V = [3 4] so that X(W + V)ᵀ = 11; Y = 1: E = 10, L = 100, ∇L = 2·10·[1 2]
    X = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    W, V = torch.tensor([[2.0, 1.0]]).double(), torch.tensor([[1.0, 3.0]]).double()
    task = Regression(X, W, torch.ones(1, 1, dtype=torch.float64))
    assert th.loss(task, V) == 100
    assert th.gradient(task, V).tolist() == [[20, 40]]
    assert th.hessian(X, 1).tolist() == [[2, 4], [4, 8]]
    assert th.hessian(X, 2).tolist() == [[2, 4, 0, 0], [4, 8, 0, 0], [0, 0, 2, 4], [0, 0, 4, 8]]
    torch.testing.assert_close(th.eigenvalues(X), torch.tensor([10.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("n", [2, N])
def test_gradient_and_hessian_are_those_of_autograd(rng, n):
    task, V = problem(rng, n), normal(rng, D_OUT, D_IN)
    torch.testing.assert_close(th.gradient(task, V), torch.func.grad(lambda V: th.loss(task, V))(V))
    by_autograd = torch.func.hessian(lambda v: th.loss(task, v.view(D_OUT, D_IN)))(V.flatten())
    torch.testing.assert_close(th.hessian(task.X, D_OUT), by_autograd)


def test_the_paper_layout_flattened_by_rows_turns_the_kronecker_product_around(rng):
    task, V = problem(rng), normal(rng, D_IN, D_OUT)

    def loss(v):  # written out in the paper's letters, with W and V (d_in, d_out)
        return (task.X @ (task.W.T + v.view(D_IN, D_OUT)) - task.Y).square().sum()

    by_autograd = torch.func.hessian(loss)(V.flatten())
    torch.testing.assert_close(th.hessian_paper_layout(task.X, D_OUT), by_autograd)
    assert not torch.allclose(th.hessian(task.X, D_OUT), by_autograd)
    gradient = 2 * task.X.T @ (task.X @ (task.W.T + V) - task.Y)
    torch.testing.assert_close(torch.func.grad(loss)(V.flatten()).view(D_IN, D_OUT), gradient)
    torch.testing.assert_close(th.gradient(task, V.T), gradient.T)


def test_stacking_the_paper_layout_by_columns_gives_the_order_it_prints(rng):
    X = normal(rng, N, D_IN)
    order = torch.arange(D_IN * D_OUT).view(D_OUT, D_IN).T.flatten()  # row-major to column-major
    torch.testing.assert_close(
        th.hessian(X, D_OUT)[order][:, order], th.hessian_paper_layout(X, D_OUT)
    )


def test_equation_one_as_printed_differs_by_the_transpose_of_its_second_term(rng):
    task, V = problem(rng, d_in=4, d_out=4), normal(rng, 4, 4)
    constant = 2 * (task.Y - task.X @ task.W.T).T @ task.X  # 2 (Y - XW)ᵀX of the print
    torch.testing.assert_close(
        th.gradient(task, V) - th.gradient_as_printed(task, V), constant.T - constant
    )
    assert not torch.allclose(constant, constant.T)


def test_equation_one_as_printed_adds_matrices_of_two_shapes(rng):
    with pytest.raises(ValueError, match="adds a 5 x 3 to a 3 x 5 matrix"):
        th.gradient_as_printed(problem(rng), normal(rng, D_OUT, D_IN))


@pytest.mark.parametrize("n", [1, 3, D_IN, 9])
def test_rank_is_outputs_times_rank_of_the_inputs(rng, n):
    X = normal(rng, n, D_IN)
    H = th.hessian(X, D_OUT)
    assert th.hessian_rank(X, D_OUT) == D_OUT * min(n, D_IN) == torch.linalg.matrix_rank(H)


def test_repeated_inputs_lower_the_rank_although_n_exceeds_d(rng):
    X = normal(rng, 2, D_IN).repeat(4, 1)
    assert th.hessian_rank(X, D_OUT) == 2 * D_OUT
    assert (th.eigenvalues(X)[2:] == 0).all()


@pytest.mark.parametrize("n", [3, 9])
def test_every_eigenvalue_of_the_inputs_appears_once_an_output(rng, n):
    X = normal(rng, n, D_IN)
    brute = torch.linalg.eigvalsh(th.hessian(X, D_OUT)).flip(0)
    torch.testing.assert_close(th.eigenvalues(X).repeat_interleave(D_OUT), brute)


def test_the_hessian_far_from_zero_is_the_hessian_at_zero(rng):
    task = problem(rng, n=2)
    near, far = (
        torch.func.hessian(lambda v: th.loss(task, v.view(D_OUT, D_IN)))(v)
        for v in (torch.zeros(D_OUT * D_IN).double(), 100 * normal(rng, D_OUT * D_IN))
    )
    torch.testing.assert_close(near, far, rtol=0, atol=1e-12)
    assert torch.linalg.matrix_rank(far) == 2 * D_OUT < D_IN * D_OUT


@pytest.mark.parametrize("n", [100, 1600])
def test_gaussian_inputs_have_the_edges_of_marchenko_and_pastur(rng, n):
    h = th.eigenvalues(normal(rng, n, 400))
    h = h[h > 0]
    low, high = th.spectrum_edges(n, 400)
    # edges fluctuate by n^(-2/3) of themselves: 5 % is four times that here
    assert h[-1].item() == pytest.approx(low, rel=0.05)
    assert h[0].item() == pytest.approx(high, rel=0.05)
    assert len(h) == min(n, 400)


def test_the_nonzero_part_is_worst_conditioned_where_n_equals_d_not_where_n_is_small(rng):
    few, equal, many = (th.condition_number(normal(rng, n, 64)) for n in (16, 64, 256))
    assert few < 0.1 * equal
    assert many < 0.1 * equal
    assert th.spectrum_edges(64, 64)[0] == 0


def test_condition_number_by_hand():
    X = torch.diag(torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64))
    assert th.condition_number(X) == pytest.approx(9)
    with pytest.raises(ValueError, match="X is zero"):
        th.condition_number(torch.zeros(2, 3, dtype=torch.float64))


def test_time_to_one_hundredth_by_hand():
    h = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)
    assert th.time_to_fraction(h).tolist() == [math.log(100) / 2, math.log(100), math.inf]
    assert th.time_to_fraction(h, 1 / math.e)[0].item() == pytest.approx(0.5)


@pytest.mark.parametrize("fraction", [0.0, 1.0, math.nan])
def test_a_fraction_that_no_flow_reaches_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction must be"):
        th.time_to_fraction(torch.ones(1), fraction)


def test_along_an_eigenvector_the_error_is_down_to_a_hundredth_at_the_time_given(rng):
    task = problem(rng)
    best = torch.linalg.lstsq(task.X, task.Y).solution.T - task.W
    direction = torch.zeros(D_OUT, D_IN, dtype=torch.float64)
    h, vectors = torch.linalg.eigh(2 * task.X.T @ task.X)
    direction[1] = vectors[:, 2]
    V = euler(task, best + direction, th.time_to_fraction(h[2]).item(), 4000)
    torch.testing.assert_close(V - best, 0.01 * direction, rtol=0, atol=1e-4)


def test_flow_follows_the_closed_form(rng):
    task, V, time = problem(rng, n=4), normal(rng, D_OUT, D_IN), 0.03
    got = th.loss(task, euler(task, V, time, 4000))
    closed = th.flow_losses(task, V, torch.tensor([0.0, time], dtype=torch.float64))
    torch.testing.assert_close(closed[0], th.loss(task, V))
    torch.testing.assert_close(closed[1], got, rtol=2e-3, atol=0)


def test_the_time_to_halve_the_loss_is_when_the_flow_has_halved_it(rng):
    task, V = problem(rng, n=4), normal(rng, D_OUT, D_IN)
    times = torch.tensor([0.0, th.time_to_loss(task, V, 0.5)], dtype=torch.float64)
    losses = th.flow_losses(task, V, times)
    assert (losses[1] / losses[0]).item() == pytest.approx(0.5)
    assert th.time_to_loss(task, V, 0.1) > times[1]


def test_a_loss_no_V_reaches_is_never_reached(rng):
    assert th.time_to_loss(problem(rng), torch.zeros(D_OUT, D_IN).double(), 1e-6) == math.inf


def test_with_fewer_samples_than_inputs_the_flow_still_reaches_zero_loss(rng):
    task = problem(rng, n=3)  # the Hessian is singular, 2 · 3 directions never move
    start = torch.zeros(D_OUT, D_IN, dtype=torch.float64)
    assert th.hessian_rank(task.X, D_OUT) < D_OUT * D_IN
    assert th.flow_losses(task, start, torch.tensor([1e6]).double()).item() < 1e-9


def test_with_more_samples_than_inputs_the_flow_ends_at_least_squares(rng):
    task = problem(rng)
    end = th.flow_losses(task, normal(rng, D_OUT, D_IN), torch.tensor([1e6]).double())
    best = torch.linalg.lstsq(task.X, task.Y).solution.T - task.W
    torch.testing.assert_close(end[0], th.loss(task, best))


def test_shapes_that_do_not_fit_together_are_refused(rng, monkeypatch):
    with pytest.raises(ValueError, match="d_out must be at least 1"):
        th.hessian(normal(rng, N, D_IN), 0)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users run it
    with pytest.raises(ValueError, match="transpose the one that does not fit"):
        Regression(normal(rng, N, D_IN), normal(rng, D_IN, D_OUT), normal(rng, N, D_OUT))
    with pytest.raises(ValueError, match="transpose the one that does not fit"):
        Regression(normal(rng, N, D_IN), normal(rng, D_OUT, D_IN), normal(rng, D_OUT, N))
