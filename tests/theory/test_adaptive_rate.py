"""The adaptive function by hand, its family against autograd and draws, the row's way by its laws."""

import math

import pytest
import torch
from torch import nn

from allora_lab.adapters.allora import ALLoRALinear, row_coefficients
from allora_lab.adapters.asf_lora import ASFLoRALinear
from allora_lab.theory.adaptive_rate import (
    adaptive_coefficient,
    asf_output,
    asf_slope,
    local_exponent,
    output_coefficient,
    row_norm,
    taper_time,
    time_to_norm,
)

ETAS = [0.5, 1.0, 2.0, 4.0, 16.0]


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def slope(x, y):
    return (torch.diff(y.log()) / torch.diff(x.log())).mean().item()


def test_the_coefficient_by_hand():
    found = adaptive_coefficient(values(0, 0.75, 2, -2), 4.0)
    torch.testing.assert_close(found, values(2, 1, 2 / 3, 2 / 3))


@pytest.mark.parametrize("eta_squared", ETAS)
def test_the_coefficient_is_the_one_the_adapter_uses(rng, eta_squared):
    A = torch.randn(3, 7, generator=rng, dtype=torch.float64)
    B = torch.randn(5, 3, generator=rng, dtype=torch.float64)
    found = adaptive_coefficient((B @ A).norm(dim=1), eta_squared)
    torch.testing.assert_close(found, row_coefficients(A, B, eta_squared))


@pytest.mark.parametrize("eta_squared", ETAS)
def test_it_falls_as_one_over_the_square_root_and_not_as_one_over_the_norm(eta_squared):
    far = torch.logspace(6, 9, 4, dtype=torch.float64)
    assert slope(far, adaptive_coefficient(far, eta_squared)) == pytest.approx(-0.5, abs=1e-4)
    near = torch.logspace(-9, -6, 4, dtype=torch.float64)
    assert slope(near, adaptive_coefficient(near, eta_squared)) == pytest.approx(0, abs=1e-4)
    log_norm = values(0.003, 0.3, 30).log().requires_grad_()
    adaptive_coefficient(log_norm.exp(), eta_squared).log().sum().backward()
    exponent = local_exponent(log_norm.detach().exp(), eta_squared)
    torch.testing.assert_close(exponent, log_norm.grad)
    assert local_exponent(values(1 / eta_squared), eta_squared).item() == pytest.approx(-0.25)


@pytest.mark.parametrize("eta_squared", ETAS)
def test_the_slope_of_asf_lora_is_autograd_s(eta_squared):
    f = values(-30, -0.2, 0, 0.001, 1, 50).requires_grad_()
    (gradient,) = torch.autograd.grad(asf_output(f, eta_squared).sum(), f)
    torch.testing.assert_close(asf_slope(f, eta_squared), gradient)


def test_the_output_of_asf_lora_is_the_adapter_s(rng):
    layer = nn.Linear(7, 5, dtype=torch.float64)
    adapted = ASFLoRALinear(layer, r=3, eta_squared=4.0)
    nn.init.normal_(adapted.lora_B, generator=rng)
    x = torch.randn(2, 7, generator=rng, dtype=torch.float64)
    f = x @ adapted.lora_A.T @ adapted.lora_B.T
    torch.testing.assert_close(adapted(x) - layer(x), asf_output(f, 4.0))


def test_asf_lora_is_eta_f_near_zero_and_a_square_root_far_away():
    torch.testing.assert_close(asf_output(values(1e-9, -1e-9), 4.0), values(2e-9, -2e-9))
    torch.testing.assert_close(asf_output(values(1e12, -1e12), 4.0), values(1e6, -1e6))
    ratio = asf_slope(values(1e-9, 1e12), 4.0) / adaptive_coefficient(values(1e-9, 1e12), 4.0)
    torch.testing.assert_close(ratio, values(1, 0.5))


@pytest.mark.parametrize("eta_squared", [1.0, 4.0])
def test_mean_and_spread_over_tokens_are_those_of_draws(rng, eta_squared):
    norms = values(0, 0.1, 1, 5)
    mean, spread = output_coefficient(norms, eta_squared)
    x = torch.randn(200_000, 6, generator=rng, dtype=torch.float64)
    row = nn.functional.normalize(torch.randn(6, generator=rng, dtype=torch.float64), dim=0)
    drawn = adaptive_coefficient(norms[:, None] * (x @ row), eta_squared)
    standard_error = drawn.std(dim=1) / len(x) ** 0.5
    assert ((drawn.mean(dim=1) - mean).abs() <= 4 * standard_error + 1e-12).all()
    squares = (drawn - mean[:, None]) ** 2
    square_error = squares.std(dim=1) / len(x) ** 0.5
    assert ((squares.mean(dim=1) - spread**2).abs() <= 4 * square_error + 1e-12).all()


def test_by_jensen_the_mean_over_tokens_is_above_the_coefficient_of_the_mean_and_of_the_norm():
    norms = torch.logspace(-3, 3, 13, dtype=torch.float64)
    mean, _ = output_coefficient(norms, 4.0)
    of_mean = adaptive_coefficient((2 / math.pi) ** 0.5 * norms, 4.0)
    assert (mean > of_mean).all()
    assert (of_mean > adaptive_coefficient(norms, 4.0)).all()


def test_far_from_zero_the_mean_over_tokens_is_172_over_the_root_of_the_norm():
    moment = 2**-0.25 * math.gamma(0.25) / math.pi**0.5  # E |z|^(-1/2) of a standard normal z
    assert moment == pytest.approx(1.72, abs=0.001)
    mean, _ = output_coefficient(values(1e4), 1e6)
    assert mean.item() * 1e4**0.5 == pytest.approx(moment, rel=1e-3)


def test_relative_to_its_mean_the_spread_over_tokens_keeps_growing_with_the_norm():
    mean, spread = output_coefficient(torch.logspace(-1, 4, 6, dtype=torch.float64), 4.0)
    assert (torch.diff(spread / mean) > 0).all()


@pytest.mark.parametrize("eta_squared", ETAS)
def test_the_row_s_way_solves_its_equation(eta_squared):
    time = values(0.01, 0.5, 20).requires_grad_()
    n = row_norm(time, eta_squared, gradient=0.7)
    (speed,) = torch.autograd.grad(n.sum(), time)
    torch.testing.assert_close(speed, 0.7 * adaptive_coefficient(n, eta_squared))
    torch.testing.assert_close(row_norm(values(0), eta_squared), values(0))


@pytest.mark.parametrize("eta_squared", ETAS)
def test_a_row_escapes_at_eta_times_the_rate_and_then_grows_with_exponent_two_thirds(eta_squared):
    early = taper_time(eta_squared) * values(1e-6, 1e-5, 1e-4)
    n = row_norm(early, eta_squared)
    torch.testing.assert_close(n, eta_squared**0.5 * early, rtol=1e-4, atol=0)
    assert slope(early, n) == pytest.approx(1, abs=1e-3)
    late = taper_time(eta_squared) * values(1e6, 1e7, 1e8)
    n = row_norm(late, eta_squared)
    torch.testing.assert_close(n, (1.5 * late) ** (2 / 3), rtol=1e-3, atol=0)
    assert slope(late, n) == pytest.approx(2 / 3, abs=1e-3)


def test_the_time_to_a_norm_by_hand_and_back():
    assert time_to_norm(values(2), 4.0).item() == pytest.approx(2 / 3 * (1.5**3 - 0.5**3))
    time = values(0.01, 1, 30)
    there = row_norm(time, 2.0, gradient=0.7)
    torch.testing.assert_close(time_to_norm(there, 2.0, gradient=0.7), time)


def test_at_the_taper_time_the_norm_is_059_over_eta_squared():
    n = row_norm(values(taper_time(4.0, 0.3)), 4.0, gradient=0.3)
    assert n.item() == pytest.approx((2 ** (2 / 3) - 1) / 4)


def test_sgd_on_a_row_of_the_real_adapter_follows_the_closed_form(rng):
    layer = nn.Linear(5, 4, bias=False, dtype=torch.float64)
    adapted = ALLoRALinear(layer, r=3, eta_squared=4.0)
    with torch.no_grad():  # rows of A orthonormal and held: then ||B_i A|| = ||B_i||
        A = torch.linalg.qr(torch.randn(5, 3, generator=rng, dtype=torch.float64))[0].T
        adapted.lora_A.copy_(A)
    x = torch.randn(1, 5, generator=rng, dtype=torch.float64)
    pull = (x @ A.T).norm().item()  # the gradient of each row of B has this length, always
    lr, steps = 3e-3, 500
    for _ in range(steps):
        adapted.lora_B.grad = None
        adapted(x).sum().neg().backward()
        with torch.no_grad():
            adapted.lora_B -= lr * adapted.lora_B.grad
    expected = row_norm(values(*[lr * steps] * 4), 4.0, gradient=pull)
    torch.testing.assert_close(adapted.row_norms(), expected, rtol=5e-3, atol=0)


def test_an_eta_squared_of_zero_is_refused():
    for function in (adaptive_coefficient, local_exponent, asf_slope, output_coefficient, row_norm):
        with pytest.raises(ValueError, match="eta_squared must be a finite number above 0"):
            function(values(1.0), 0.0)
    with pytest.raises(ValueError, match="gradient must be a finite number above 0"):
        taper_time(4.0, 0.0)
