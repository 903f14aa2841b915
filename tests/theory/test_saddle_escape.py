"""Gradient flow away from (0, 0): the integrator, the logarithm and its slope."""

import math

import pytest
import torch

from allora_lab.theory import hessian as convex
from allora_lab.theory import saddle_escape as th
from allora_lab.theory.hessian import Regression

N, D_IN, D_OUT, R = 9, 5, 4, 2


def normal(rng, *shape):
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


@pytest.fixture
def task(rng):
    """Inputs, a weight, and targets that a change of rank one explains."""
    X, W = normal(rng, N, D_IN), normal(rng, D_OUT, D_IN)
    change = normal(rng, D_OUT, 1) @ normal(rng, 1, D_IN)
    return Regression(X, W, X @ (W + change).T)


def toy():
    one = torch.ones(1, 1, dtype=torch.float64)
    return Regression(one, torch.zeros_like(one), one)


def test_escape_rate_is_the_largest_singular_value_of_twice_the_error_times_the_inputs(task):
    E = task.X @ task.W.T - task.Y
    assert th.escape_rate(task) == pytest.approx(
        2 * torch.linalg.matrix_norm(E.T @ task.X, 2).item()
    )


@pytest.mark.parametrize("eps", [0.01, 1.0])
def test_the_time_to_halve_the_toy_is_its_integral(eps):
    # L = (ab - 1)² from (ε, 0): a² - b² stays ε², so V = ab obeys dV/dt = 2(1 - V)√(ε⁴ + 4V²)
    goal = 1 - 0.5**0.5
    v = torch.linspace(0, math.asinh(2 * goal / eps**2), 200_001, dtype=torch.float64).sinh()
    v = v * eps**2 / 2
    expected = torch.trapezoid(1 / (2 * (1 - v) * (eps**4 + 4 * v**2).sqrt()), v).item()
    start = torch.full((1, 1, 1), eps, dtype=torch.float64)
    got = th.descent_times(toy(), start, fineness=0.02)
    assert got.item() == pytest.approx(expected, rel=1e-4)


def test_the_time_to_leave_grows_as_the_logarithm_with_slope_one_over_sigma(rng, task):
    A = normal(rng, R, D_IN)
    scales = 10.0 ** -torch.arange(2, 6, dtype=torch.float64)
    times = th.descent_times(task, scales[:, None, None] * A)
    slopes = torch.diff(times) / torch.diff(-scales.log())
    expected = torch.full_like(slopes, 1 / th.escape_rate(task))
    torch.testing.assert_close(slopes, expected, rtol=2e-3, atol=0)


def test_from_zero_itself_nothing_ever_leaves(rng, task):
    A = torch.stack([torch.zeros(R, D_IN, dtype=torch.float64), normal(rng, R, D_IN)])
    times = th.descent_times(task, A)
    assert times[0] == math.inf
    assert times[1].isfinite()


def test_at_zero_no_step_is_wasted(task, monkeypatch):
    steps = []
    flow_step = th.flow_step
    monkeypatch.setattr(th, "flow_step", lambda *given: steps.append(1) or flow_step(*given))
    th.descent_times(task, torch.zeros(1, R, D_IN).double())
    assert len(steps) <= 1


def test_a_start_that_runs_out_of_steps_is_called_infinite(task):
    assert th.descent_times(task, torch.ones(1, R, D_IN).double(), max_steps=1).item() == math.inf


def test_the_flow_keeps_the_balance_of_A_and_B(rng, task):
    A, B, dt = normal(rng, R, D_IN), normal(rng, D_OUT, R), torch.full((1, 1), 1e-3).double()
    before = A @ A.T - B.T @ B
    for _ in range(100):
        A, B = th.flow_step(task, A, B, dt)
    torch.testing.assert_close(A @ A.T - B.T @ B, before, rtol=0, atol=1e-5)


def test_the_integrator_is_of_fourth_order(rng, task):
    start = 0.3 * normal(rng, R, D_IN), 0.3 * normal(rng, D_OUT, R)

    def end(steps):
        A, B = start
        dt = torch.full((1, 1), 0.02 / steps, dtype=torch.float64)
        for _ in range(steps):
            A, B = th.flow_step(task, A, B, dt)
        return B

    exact = end(256)
    errors = torch.stack([(end(steps) - exact).norm() for steps in (4, 8, 16)])
    assert torch.diff(errors.log2()).tolist() == pytest.approx([-4, -4], abs=0.3)


def test_halving_the_step_does_not_move_the_time(rng, task):
    A = normal(rng, 1, R, D_IN)
    coarse, fine = (th.descent_times(task, A, fineness=f) for f in (0.1, 0.05))
    torch.testing.assert_close(coarse, fine, rtol=1e-3, atol=0)


def test_from_a_large_A_only_B_moves_and_its_problem_is_convex(task):
    # B reaches its goal before A moves: linear regression on the inputs X Aᵀ
    A = 1e3 * torch.eye(D_IN, dtype=torch.float64)
    got = th.descent_times(task, A[None]).item()
    start = torch.zeros(D_OUT, D_IN, dtype=torch.float64)
    inner = Regression(task.X @ A.T, start, task.Y - task.X @ task.W.T)
    losses = convex.flow_losses(inner, start, torch.tensor([0.0, got]).double())
    assert (losses[1] / losses[0]).item() == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("setting", [{"fraction": 0.0}, {"fraction": 1.0}, {"fineness": 0.0}])
def test_settings_that_never_end_are_refused(task, setting):
    with pytest.raises(ValueError, match="must be a finite number above 0"):
        th.descent_times(task, torch.ones(1, R, D_IN).double(), **setting)
