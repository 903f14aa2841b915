"""Expected loss and variance of each dropout, against every mask, by hand and by sampling."""

import pytest
import torch

from allora_lab.theory import dropout_ols
from allora_lab.theory.dropout_ols import (
    bottleneck_dropout,
    draw_masks,
    every_mask,
    expected_loss,
    input_dropout,
    loss_variance,
    losses_of,
    output_dropout,
    penalty,
    plain_loss,
    sampled_losses,
)

N, D, C, R = 3, 4, 5, 2


def normal(rng, *shape):
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def three_fits(rng):
    X, Y, W = normal(rng, N, D), normal(rng, N, C), normal(rng, D, C)
    A, B = normal(rng, R, D), normal(rng, C, R)
    return {
        "output": output_dropout(X, Y, W),
        "bottleneck": bottleneck_dropout(X, Y, A, B),
        "input": input_dropout(X, Y, W),
    }


@pytest.fixture(params=["output", "bottleneck", "input"])
def fit(request, rng):
    return three_fits(rng)[request.param]


def test_two_masks_by_hand():
    # V is 0 or 2: the loss is 2² = 4 or (2 - 6)² = 16, so the mean is 10 and the variance 36
    fit = input_dropout(*(torch.full((1, 1), v, dtype=torch.float64) for v in (3.0, 2.0, 1.0)))
    assert plain_loss(fit) == 1
    assert expected_loss(fit, 0.5) == 10
    assert loss_variance(fit, 0.5) == 36
    # keep 1/4: V is 4 with probability 1/4: losses 4 and (2 - 12)² = 100
    assert expected_loss(fit, 0.25) == 28
    assert loss_variance(fit, 0.25) == 3 / 16 * 96**2


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_mean_and_variance_are_those_of_all_masks(fit, keep):
    V, p = every_mask(*fit.Z.shape, keep)
    losses = losses_of(fit, V)
    mean = p @ losses
    torch.testing.assert_close(expected_loss(fit, keep), mean)
    torch.testing.assert_close(loss_variance(fit, keep), p @ (losses - mean).square())


@pytest.mark.parametrize("keep", [0.2, 0.9])
def test_all_masks_have_mean_one_and_variance_k(keep):
    V, p = every_mask(2, 3, keep)
    assert len(V) == 64
    assert p.sum().item() == pytest.approx(1)
    mean = torch.einsum("v,vnm->nm", p, V)
    torch.testing.assert_close(mean, torch.ones_like(mean))
    variance = torch.einsum("v,vnm->nm", p, (V - 1).square())
    torch.testing.assert_close(variance, torch.full_like(mean, (1 - keep) / keep))


def test_the_three_penalties_are_the_printed_ones(rng):
    X, Y, W = normal(rng, N, D), normal(rng, N, C), normal(rng, D, C)
    A, B = normal(rng, R, D), normal(rng, C, R)
    output = ((X @ W) ** 2).sum()
    bottleneck = sum((X @ A[i]).norm() ** 2 * B[:, i].norm() ** 2 for i in range(R))
    on_input = sum(X[:, j].norm() ** 2 * W[j].norm() ** 2 for j in range(D))
    torch.testing.assert_close(penalty(output_dropout(X, Y, W)), output)
    torch.testing.assert_close(penalty(bottleneck_dropout(X, Y, A, B)), bottleneck)
    torch.testing.assert_close(penalty(input_dropout(X, Y, W)), on_input)


def test_the_three_masked_losses_are_the_written_ones(rng):
    X, Y, W = normal(rng, N, D), normal(rng, N, C), normal(rng, D, C)
    A, B = normal(rng, R, D), normal(rng, C, R)
    V = {m: draw_masks((1, N, m), 0.6, rng) for m in (C, R, D)}
    for fit, prediction in (
        (output_dropout(X, Y, W), (X @ W) * V[C]),
        (bottleneck_dropout(X, Y, A, B), ((X @ A.T) * V[R]) @ B.T),
        (input_dropout(X, Y, W), (X * V[D]) @ W),
    ):
        loss = losses_of(fit, V[fit.Z.shape[1]])
        torch.testing.assert_close(loss, ((Y - prediction) ** 2).sum().view(1))


def test_all_placements_share_the_loss_without_dropout(rng):
    X, Y, A, B = (normal(rng, *s) for s in ((N, D), (N, C), (R, D), (C, R)))
    W = (B @ A).T
    losses = [
        plain_loss(f)
        for f in (
            output_dropout(X, Y, W),
            bottleneck_dropout(X, Y, A, B),
            input_dropout(X, Y, W),
        )
    ]
    torch.testing.assert_close(torch.stack(losses), ((Y - X @ W) ** 2).sum().expand(3))


def test_keeping_everything_is_no_dropout(fit, rng):
    assert loss_variance(fit, 1.0) == 0
    torch.testing.assert_close(expected_loss(fit, 1.0), plain_loss(fit))
    draws = sampled_losses(fit, 1.0, 5, rng)
    torch.testing.assert_close(draws, plain_loss(fit).expand(5))


def test_at_zero_no_mask_changes_anything(rng):
    X, Y, A = normal(rng, N, D), normal(rng, N, C), normal(rng, R, D)
    zero = torch.zeros(D, C, dtype=torch.float64)
    assert loss_variance(output_dropout(X, Y, zero), 0.5) == 0
    assert loss_variance(input_dropout(X, Y, zero), 0.5) == 0
    start = bottleneck_dropout(X, Y, A, torch.zeros(C, R, dtype=torch.float64))
    assert loss_variance(start, 0.5) == 0  # LoRA's start
    assert expected_loss(start, 0.5) == Y.square().sum()


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_sampled_losses_have_the_exact_mean_and_variance(fit, rng, keep):
    losses = sampled_losses(fit, keep, 40_000, rng)
    errors = (losses - expected_loss(fit, keep)).square()
    assert abs(losses.mean() - expected_loss(fit, keep)) < 4 * losses.std() / 200
    assert abs(errors.mean() - loss_variance(fit, keep)) < 4 * errors.std() / 200


def test_masks_are_zero_or_one_over_keep_as_often_as_they_should(rng):
    V = draw_masks((50, 400), 0.8, rng)
    assert set(V.unique().tolist()) == {0.0, 1 / 0.8}
    assert (V > 0).double().mean().item() == pytest.approx(0.8, abs=4 * 0.4 / 20_000**0.5)


def test_draws_in_batches_are_the_draws_asked_for(rng, monkeypatch):
    fit = three_fits(rng)["output"]
    monkeypatch.setattr(dropout_ols, "AT_ONCE", 4 * fit.Y.numel())
    losses = sampled_losses(fit, 0.5, 11, rng)
    assert len(losses) == 11
    assert len(losses.unique()) == 11
    again = sampled_losses(fit, 0.5, 4, torch.Generator().manual_seed(9))
    masks = draw_masks((4, N, C), 0.5, torch.Generator().manual_seed(9))
    torch.testing.assert_close(again, losses_of(fit, masks))


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.01, float("nan")])
def test_a_keep_that_is_no_probability_is_refused(fit, rng, keep):
    for call in (
        lambda: expected_loss(fit, keep),
        lambda: draw_masks((2,), keep, rng),
        lambda: every_mask(1, 1, keep),
    ):
        with pytest.raises(ValueError, match="keep is the probability of keeping"):
            call()


def test_too_many_masks_and_too_few_draws_are_refused(fit, rng):
    with pytest.raises(ValueError, match="at most 20, got 21"):
        every_mask(3, 7, 0.5)
    with pytest.raises(ValueError, match="n_draws must be at least 1"):
        sampled_losses(fit, 0.5, 0, rng)
