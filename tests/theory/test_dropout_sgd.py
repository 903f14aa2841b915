"""SGD under dropout: its mean is descent on the expected loss, and its spread is the exact one."""

import math

import pytest
import torch

from allora_lab.theory.dropout_ols import (
    bottleneck_dropout,
    draw_masks,
    every_mask,
    expected_loss,
    input_dropout,
    losses_of,
    output_dropout,
)
from allora_lab.theory.dropout_sgd import (
    bottleneck_descent,
    bottleneck_paths,
    expected_descent,
    sgd_paths,
)
from allora_lab.theory.dropout_sgd_spread import path_spread

BUILD = {"output": output_dropout, "input": input_dropout}
N, D, C, R = 8, 3, 4, 2


def normal(rng, *shape):
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


@pytest.fixture(params=["output", "input"])
def placement(request):
    return request.param


@pytest.fixture
def problem(rng):
    return normal(rng, N, D), normal(rng, N, C), 0.5 * normal(rng, D, C)


def masked_gradient(placement, X, Y, W, V):
    W = W.clone().requires_grad_()
    losses_of(BUILD[placement](X, Y, W), V[None])[0].backward()
    return W.grad


def test_a_step_follows_the_gradient_of_one_masked_loss(problem, placement):
    X, Y, W = problem
    run = {"keep": 0.7, "lr": 0.05, "steps": (1,), "n_paths": 3}
    paths = sgd_paths(placement, X, Y, W, generator=torch.Generator().manual_seed(5), **run)[0]
    shape = Y.shape if placement == "output" else X.shape
    masks = draw_masks((3, *shape), 0.7, torch.Generator().manual_seed(5))
    for path, V in zip(paths, masks, strict=True):
        torch.testing.assert_close(path, W - 0.05 * masked_gradient(placement, X, Y, W, V))


def test_mean_and_spread_are_those_of_every_sequence_of_masks(rng, placement):
    X, Y, W = normal(rng, 2, 2), normal(rng, 2, 1), normal(rng, 2, 1)
    keep, lr = 0.6, 0.1
    V, p = every_mask(*(Y.shape if placement == "output" else X.shape), keep)
    paths, weights = W[None], torch.ones(1, dtype=torch.float64)
    for steps in (1, 2, 3):
        paths = torch.stack(
            [w - lr * masked_gradient(placement, X, Y, w, v) for w in paths for v in V]
        )
        weights = (weights[:, None] * p).flatten()
        mean = torch.einsum("s,sdc->dc", weights, paths)
        variance = weights @ (paths - mean).square().sum(dim=(1, 2))
        run = {"keep": keep, "lr": lr, "steps": (steps,)}
        torch.testing.assert_close(expected_descent(placement, X, Y, W, **run)[0], mean)
        torch.testing.assert_close(path_spread(placement, X, Y, W, **run)[0], variance.sqrt())


@pytest.mark.parametrize("keep", [0.4, 1.0])
def test_expected_descent_is_descent_on_the_expected_loss(problem, placement, keep):
    X, Y, W = problem
    current = W
    for _ in range(7):
        current = current.detach().requires_grad_()
        expected_loss(BUILD[placement](X, Y, current), keep).backward()
        current = current.detach() - 0.01 * current.grad
    run = {"keep": keep, "lr": 0.01, "steps": (0, 7)}
    found = expected_descent(placement, X, Y, W, **run)
    torch.testing.assert_close(found[0], W)
    torch.testing.assert_close(found[1], current)


def test_descent_leaves_alone_what_no_sample_reaches(problem):
    X, Y, W = problem
    twice = torch.cat((X, X[:, :1]), dim=1)  # columns 0 and 3 are one: their difference is unseen
    W = torch.cat((W, W[1:2]))
    found = expected_descent("output", twice, Y, W, keep=0.5, lr=0.01, steps=(100,))[0]
    torch.testing.assert_close(found[0] - found[3], W[0] - W[3])
    assert (found - W).norm() > 0.1


def test_many_runs_average_to_descent_and_spread_as_predicted(problem, placement, rng):
    run = {"keep": 0.6, "lr": 0.01, "steps": (1, 5, 40)}
    paths = sgd_paths(placement, *problem, n_paths=4000, generator=rng, **run)
    errors = paths - expected_descent(placement, *problem, **run)[:, None]
    standard_errors = paths.std(dim=1) / 4000**0.5
    assert (errors.mean(dim=1) / standard_errors).abs().max() < 4.5
    squares = errors.square().sum(dim=(2, 3))
    found = path_spread(placement, *problem, **run).square()
    assert ((squares.mean(1) - found).abs() < 4 * squares.std(dim=1) / 4000**0.5).all()


def test_from_zero_the_first_step_has_noise_and_no_effect(problem, placement):
    X, Y, W = problem
    zero, run = torch.zeros_like(W), {"lr": 0.01, "steps": (1, 2)}
    dropped = expected_descent(placement, X, Y, zero, keep=0.5, **run)
    plain = expected_descent(placement, X, Y, zero, keep=1.0, **run)
    torch.testing.assert_close(dropped[0], plain[0])
    assert (dropped[1] - plain[1]).norm() > 1e-4
    assert path_spread(placement, X, Y, zero, keep=0.5, **run)[0] > 0.01


def test_without_dropout_all_runs_are_one(problem, placement):
    run = {"keep": 1.0, "lr": 0.01, "steps": (1, 50)}
    assert path_spread(placement, *problem, **run).max() < 1e-7


def test_at_a_fixed_rate_the_spread_ends_at_a_floor_as_the_root_of_the_rate(problem, placement):
    def floor(lr):
        late = (int(40 / lr), int(80 / lr))
        first, second = path_spread(placement, *problem, keep=0.8, lr=lr, steps=late).tolist()
        assert first == pytest.approx(second, rel=1e-3)  # twice the steps: no better
        return second

    assert floor(1e-3) / floor(2.5e-4) == pytest.approx(2, rel=0.02)


def test_at_one_training_time_the_spread_falls_as_one_over_root_n(problem, placement):
    counts = (200, 3200)
    spreads = [
        path_spread(placement, *problem, keep=0.8, lr=0.1 / n, steps=(n,)).item() for n in counts
    ]
    assert math.log(spreads[1] / spreads[0]) / math.log(16) == pytest.approx(-0.5, abs=0.01)


def test_a_bottleneck_with_A_frozen_is_input_dropout_on_its_features(rng):
    X, Y, A = normal(rng, N, D), normal(rng, N, C), normal(rng, R, D)
    B = normal(rng, C, R)
    seed = torch.Generator().manual_seed
    run = {"keep": 0.6, "lr": 0.01, "n_paths": 5}
    found = bottleneck_paths(X, Y, A, B, steps=1, generator=seed(3), **run)[1]
    expected = sgd_paths("input", X @ A.T, Y, B.T, steps=(1,), generator=seed(3), **run)[0].mT
    torch.testing.assert_close(found, expected)


def test_both_factors_follow_the_gradient_of_one_masked_loss(rng):
    X, Y, A, B = normal(rng, N, D), normal(rng, N, C), normal(rng, R, D), normal(rng, C, R)
    run = {"keep": 0.6, "lr": 0.01, "steps": 1, "n_paths": 2}
    new_A, new_B = bottleneck_paths(X, Y, A, B, generator=torch.Generator().manual_seed(4), **run)
    masks = draw_masks((2, N, R), 0.6, torch.Generator().manual_seed(4))
    for i, V in enumerate(masks):
        a, b = A.clone().requires_grad_(), B.clone().requires_grad_()
        losses_of(bottleneck_dropout(X, Y, a, b), V[None])[0].backward()
        torch.testing.assert_close(new_A[i], A - 0.01 * a.grad)
        torch.testing.assert_close(new_B[i], B - 0.01 * b.grad)


def test_bottleneck_descent_is_descent_on_the_expected_loss(rng):
    X, Y, A, B = normal(rng, N, D), normal(rng, N, C), normal(rng, R, D), normal(rng, C, R)
    run = {"keep": 0.6, "lr": 0.01}
    found = bottleneck_descent(X, Y, A, B, steps=3, **run)
    for _ in range(3):
        a, b = A.clone().requires_grad_(), B.clone().requires_grad_()
        expected_loss(bottleneck_dropout(X, Y, a, b), 0.6).backward()
        A, B = A - 0.01 * a.grad, B - 0.01 * b.grad
    torch.testing.assert_close(found, (A, B))


def test_with_both_factors_the_mean_run_is_descent_for_one_step_only(rng):
    X, Y, A = normal(rng, N, D), normal(rng, N, C), normal(rng, R, D)
    B = torch.zeros(C, R, dtype=torch.float64)

    def worst(steps):
        run = {"keep": 0.5, "lr": 0.01, "steps": steps}
        _, paths = bottleneck_paths(X, Y, A, B, n_paths=3000, generator=rng, **run)
        error = paths.mean(dim=0) - bottleneck_descent(X, Y, A, B, **run)[1]
        return (error / (paths.std(dim=0) / 3000**0.5)).abs().max()

    assert worst(1) < 4
    assert worst(30) > 12


def test_bad_settings_are_refused(problem):
    run = {"keep": 0.5, "lr": 0.01, "steps": (1,)}
    with pytest.raises(ValueError, match="unknown placement 'outptu': did you mean 'output'"):
        expected_descent("outptu", *problem, **run)
    with pytest.raises(ValueError, match="unknown placement 'bottleneck'"):
        path_spread("bottleneck", *problem, **run)
    with pytest.raises(ValueError, match="lr must be a finite number above 0"):
        expected_descent("input", *problem, **{**run, "lr": 0.0})
    with pytest.raises(ValueError, match="keep is the probability"):
        path_spread("input", *problem, **{**run, "keep": 0.0})
