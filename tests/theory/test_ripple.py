"""Bounds by hand and against brute force; the laws of random directions by their standard errors."""

import math

import pytest
import torch
import torch.nn.functional as F

from allora_lab.theory.ripple import (
    ARCHITECTURES,
    aligned_growth,
    growth_bound,
    mean_ratio_bound,
    mean_square_norm,
    norm_bound,
    through_depth,
)
from allora_lab.theory.ripple_network import (
    aligned_network,
    growth,
    hidden_states,
    layer_norm,
    random_factors,
    random_weights,
    relative_change,
)

N, L, D, R = 5, 7, 11, 3  # all different, so a transposed matrix cannot pass
M, S = 0.3, 2.0


def normal(rng, *shape):
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def signal(rng, n=N, d=D):
    return d**0.5 * F.normalize(normal(rng, n, d), dim=-1)


def constant(value, length=L):
    return torch.full((length,), value, dtype=torch.float64)


def operator_norm(matrices):
    return torch.linalg.matrix_norm(matrices, ord=2)


def aligned(rng, architecture, x, W, alignment):
    others = normal(rng, *W.shape[:2], 2, W.shape[-1])
    at = {"ratio": M, "scaling": S, "alignment": alignment}
    A, B, states = aligned_network(architecture, x, W, others, **at)
    torch.testing.assert_close(states, hidden_states(architecture, x, W, A, B, S))
    return A, B


def test_the_bound_by_hand():
    ratios = torch.tensor([0.5, 0.25], dtype=torch.float64)
    torch.testing.assert_close(growth_bound(ratios, 2.0), torch.tensor([1, 2, 3.0]).double())
    assert mean_ratio_bound(ratios, 2.0) == pytest.approx(1.75**2)


def test_the_bound_of_24_layers_at_scale_2_and_ratio_03_is_79_thousand():
    assert growth_bound(constant(0.3, 24), 2.0)[-1].item() == pytest.approx(1.6**24)
    assert pytest.approx(7.9e4, rel=0.01) == 1.6**24


def test_the_mean_ratio_bounds_the_product_and_equals_it_for_equal_ratios_only(rng):
    ratios = torch.rand(L, generator=rng, dtype=torch.float64)
    assert growth_bound(ratios, S)[-1].item() < 0.999 * mean_ratio_bound(ratios, S)
    same = constant(0.4)
    assert growth_bound(same, S)[-1].item() == pytest.approx(mean_ratio_bound(same, S))


def test_the_paper_s_theta_has_the_right_base_only_for_a_mean_ratio_of_one():
    for ratio, holds in ((1.0, True), (0.3, False), (2.0, False)):
        quotients = [mean_ratio_bound(constant(ratio, n), S) / (1 + S) ** n for n in (10, 100)]
        assert (quotients[0] == pytest.approx(quotients[1])) is holds


def test_sizes_through_two_layers_by_hand():
    gains = torch.tensor([2.0, 3.0], dtype=torch.float64)
    by_hand = {
        "multi-linear": [5, 10, 30],
        "residual": [5, 15, 60],
        "pre-layernorm": [5, 5 + 2 * 7, 5 + 2 * 7 + 3 * 7],
        "post-layernorm": [5, 7, 7],
    }
    assert set(by_hand) == set(ARCHITECTURES)
    for architecture, sizes in by_hand.items():
        found = through_depth(architecture, gains, start=5.0, reset=7.0)
        torch.testing.assert_close(found, torch.tensor(sizes, dtype=torch.float64))


def test_hidden_states_of_the_paper_s_model_are_the_product_of_the_adapted_matrices(rng):
    x, W = normal(rng, N, D), normal(rng, N, L, D, D)
    A, B = normal(rng, N, L, R, D), normal(rng, N, L, D, R)
    h = hidden_states("multi-linear", x, W, A, B, S)
    expected = x.unsqueeze(-1)
    for layer in range(L):
        expected = (W[:, layer] + S * B[:, layer] @ A[:, layer]) @ expected
    torch.testing.assert_close(h[:, -1], expected.squeeze(-1))
    torch.testing.assert_close(h[:, 0], x)


def test_one_layer_of_each_architecture_as_torch_would_write_it(rng):
    x, W = normal(rng, N, D), normal(rng, N, 1, D, D)
    A, B = normal(rng, N, 1, R, D), normal(rng, N, 1, D, R)
    adapted = (W + S * B @ A)[:, 0]

    def branch(z):
        return (adapted @ z.unsqueeze(-1)).squeeze(-1)

    def norm(z):
        return F.layer_norm(z, (D,), eps=0.0)

    expected = {
        "multi-linear": branch(x),
        "residual": x + branch(x),
        "pre-layernorm": x + branch(norm(x)),
        "post-layernorm": norm(x + branch(x)),
    }
    for architecture in ARCHITECTURES:
        h = hidden_states(architecture, x, W, A, B, S)
        torch.testing.assert_close(h[:, 1], expected[architecture])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("alignment", [None, 0.6, 1.0])
def test_no_adapter_passes_the_bound(rng, architecture, alignment):
    x = signal(rng, 1)
    W = normal(rng, 1, L, D, D) / D**0.5
    if alignment is None:
        A, B = normal(rng, 1, L, R, D), 0.1 * normal(rng, 1, L, D, R)
    else:
        A, B = aligned(rng, architecture, x, W, alignment)
    weight_norms = operator_norm(W[0])
    ratios = operator_norm(B[0] @ A[0]) / weight_norms
    bound = norm_bound(architecture, weight_norms, ratios, S, D)
    norms = hidden_states(architecture, x, W, A, B, S)[0].norm(dim=-1)
    assert (norms <= bound * (1 + 1e-12)).all()
    if architecture == "multi-linear":
        product = growth_bound(ratios, S)[-1] * weight_norms.prod() * D**0.5  # C Π (1 + s m) ||x||
        torch.testing.assert_close(bound[-1], product)


def test_aligned_adapters_reach_the_paper_s_bound_with_equality(rng):
    x, W = signal(rng), random_weights(N, L, D, rng)
    A, B = aligned(rng, "multi-linear", x, W, 1.0)
    found = growth(
        hidden_states("multi-linear", x, W, A, B, S), hidden_states("multi-linear", x, W, A, B, 0.0)
    )
    torch.testing.assert_close(found, growth_bound(constant(M), S).expand(N, -1))


def test_with_a_residual_stream_equality_needs_weights_that_do_not_turn_the_signal(rng):
    x, W = signal(rng), 0.5 * torch.eye(D, dtype=torch.float64).expand(N, L, D, D)
    A, B = aligned(rng, "residual", x, W, 1.0)
    norms = hidden_states("residual", x, W, A, B, S).norm(dim=-1)
    bound = norm_bound("residual", constant(0.5), constant(M / 0.5), S, D)
    torch.testing.assert_close(norms, bound.expand(N, -1))
    turning = random_weights(N, L, D, rng)
    A, B = aligned(rng, "residual", x, turning, 1.0)
    norms = hidden_states("residual", x, turning, A, B, S).norm(dim=-1)
    assert (norms[:, -1] < 0.5 * norm_bound("residual", constant(1.0), constant(M), S, D)[-1]).all()


def test_where_the_weights_shrink_the_signal_growth_against_the_pretrained_output_passes_the_bound():
    W = torch.diag(torch.tensor([1.0, 0.01], dtype=torch.float64)).expand(1, 1, 2, 2)
    A = torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(1, 1, 1, 2)
    B = torch.tensor([[0.3], [0.0]], dtype=torch.float64).expand(1, 1, 2, 1)
    x = torch.tensor([[0.0, 1.0]], dtype=torch.float64)  # W x = 0.01 e_2, s B A x = 0.6 e_1
    adapted, plain = (hidden_states("multi-linear", x, W, A, B, s) for s in (S, 0.0))
    assert growth(adapted, plain)[0, 1].item() == pytest.approx(math.hypot(0.01, 0.6) / 0.01)
    assert growth(adapted, plain)[0, 1] > 37 * growth_bound(constant(M, 1), S)[-1]
    assert adapted[0, 1].norm() < growth_bound(constant(M, 1), S)[-1]  # against C ||x|| it holds


@pytest.mark.parametrize("alignment", [0.0, 0.3, 0.8, 1.0])
def test_partly_aligned_adapters_have_norm_m_and_grow_by_the_closed_form(rng, alignment):
    x, W = signal(rng), random_weights(N, L, D, rng)
    A, B = aligned(rng, "multi-linear", x, W, alignment)
    torch.testing.assert_close(operator_norm(B @ A), torch.full((N, L), M, dtype=torch.float64))
    norms = hidden_states("multi-linear", x, W, A, B, S).norm(dim=-1) / D**0.5
    depths = torch.arange(L + 1, dtype=torch.float64)
    torch.testing.assert_close(norms, (aligned_growth(M, S, alignment) ** depths).expand(N, -1))


def test_weights_are_uniform_over_the_orthogonal_group(rng):
    W = random_weights(3000, 1, 4, rng)[:, 0]
    torch.testing.assert_close(W @ W.mT, torch.eye(4, dtype=torch.float64).expand(3000, 4, 4))
    traces = torch.diagonal(W, dim1=-2, dim2=-1).sum(-1)  # E tr = 0 and E tr² = 1 under Haar
    assert abs(traces.mean()) < 4 * traces.std() / 3000**0.5
    squares = traces.square()
    assert abs(squares.mean() - 1) < 4 * squares.std() / 3000**0.5


def test_random_adapters_have_operator_norm_one_and_rank_r(rng):
    A, B = random_factors(N, L, D, R, rng)
    torch.testing.assert_close(operator_norm(B @ A), torch.ones(N, L, dtype=torch.float64))
    assert (torch.linalg.matrix_rank(B @ A) == R).all()


@pytest.fixture(scope="module")
def many():
    """Give 3000 random networks of six layers, their adapters of norm M, and their input."""
    rng = torch.Generator().manual_seed(1)
    n, depth, d = 3000, 6, 12
    A, B = random_factors(n, depth, d, 2, rng)
    return signal(rng, n, d), random_weights(n, depth, d, rng), A, M * B


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_random_directions_add_squares_at_every_depth(many, architecture):
    x, W, A, B = many
    squares = hidden_states(architecture, x, W, A, B, S).norm(dim=-1) ** 2
    ratios = (B @ A).square().sum(dim=(-2, -1)).mean(dim=0) / 12  # ||W||_F² = d
    law = mean_square_norm(architecture, constant(1.0, 6), ratios, S, 12)
    standard_error = squares.std(dim=0) / len(x) ** 0.5
    assert ((squares.mean(dim=0) - law).abs() <= 4 * standard_error + 1e-9).all()


def test_the_mean_square_change_is_the_mean_square_growth_less_one(many):
    x, W, A, B = many
    adapted, plain = (hidden_states("multi-linear", x, W, A, B, s) for s in (S, 0.0))
    difference = relative_change(adapted, plain) ** 2 - (growth(adapted, plain) ** 2 - 1)
    standard_error = difference.std(dim=0) / len(x) ** 0.5
    assert (difference.mean(dim=0).abs() <= 4 * standard_error + 1e-9).all()


def test_random_growth_is_exponential_in_depth_with_the_small_exponent(rng):
    n, depth, d = 1000, 16, 12
    x, W = signal(rng, n, d), random_weights(n, depth, d, rng)
    A, B = random_factors(n, depth, d, 1, rng)  # rank one: ||BA||_F = ||BA|| exactly
    squares = hidden_states("multi-linear", x, W, A, M * B, S).norm(dim=-1) ** 2 / d
    slope = squares.mean(dim=0)[-1].log() / depth
    standard_error = (squares[:, -1].std() / squares[:, -1].mean() / n**0.5) / depth
    assert abs(slope - math.log1p(S**2 * M**2 / d)) < 4 * standard_error
    assert slope < 0.05 * 2 * math.log1p(S * M)  # the bound's exponent, for the square


def test_a_layernorm_before_the_branch_makes_growth_linear_and_one_after_it_stops_it(rng):
    bound = norm_bound("pre-layernorm", constant(1.0), constant(M), S, D)
    steps = torch.diff(bound)
    torch.testing.assert_close(steps, torch.full_like(steps, D**0.5 * (1 + S * M)))
    x, W = signal(rng), random_weights(N, L, D, rng)
    A, B = random_factors(N, L, D, R, rng)
    norms = hidden_states("post-layernorm", x, W, A, B, 16.0).norm(dim=-1)
    torch.testing.assert_close(norms, torch.full_like(norms, D**0.5))


def test_a_layernorm_after_the_branch_undoes_aligned_adapters_and_not_turning_ones(rng):
    x, W = signal(rng), random_weights(N, L, D, rng)
    for alignment, is_undone in ((1.0, True), (0.5, False)):
        A, B = aligned(rng, "post-layernorm", x, W, alignment)
        adapted, plain = (hidden_states("post-layernorm", x, W, A, B, s) for s in (S, 0.0))
        change = relative_change(adapted, plain)[:, -1]
        assert (change < 1e-12).all() == is_undone
        assert (change > 0.1).all() != is_undone


def test_layer_norm_is_torch_s_without_weights_and_epsilon(rng):
    x = 3 + normal(rng, N, D)
    torch.testing.assert_close(layer_norm(x), F.layer_norm(x, (D,), eps=0.0))


def test_a_turn_changes_the_output_and_not_its_norm():
    plain = torch.tensor([3.0, 4.0], dtype=torch.float64)
    turned = torch.tensor([-4.0, 3.0], dtype=torch.float64)
    assert growth(turned, plain).item() == pytest.approx(1)
    assert relative_change(turned, plain).item() == pytest.approx(2**0.5)


def test_bad_input_is_refused_in_words(rng):
    with pytest.raises(ValueError, match="scaling must be at least 0, got -1"):
        growth_bound(constant(M), -1.0)
    with pytest.raises(ValueError, match="did you mean 'residual'"):
        through_depth("residuals", constant(M), 1.0, 1.0)
    with pytest.raises(ValueError, match=r"alignment is a cosine and must lie in \[0, 1\]"):
        aligned_growth(M, S, 1.5)
    with pytest.raises(Exception, match="Type-check error"):
        growth_bound(normal(rng, L, 1), S)
