"""The masked gradient is autograd's; its moments are those of all masks, and of the closed form."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from allora_lab.theory import gradient_variance
from allora_lab.theory.gradient_variance import (
    MLPWeights,
    draw_masks,
    gradient_moments,
    gradient_without_dropout,
    masked_gradients,
    quantised_keep,
    stream_gradient_moments,
    variance_with_fixed_signals,
)

N, D, H1, H2, CLASSES = 6, 9, 7, 5, 4  # all different


def random_weights(rng, d=D, h1=H1, h2=H2, classes=CLASSES, dtype=torch.float64):
    sizes = [(h1, d), (h1,), (h2, h1), (h2,), (classes, h2), (classes,)]
    return MLPWeights(*(torch.randn(s, generator=rng, dtype=dtype) / s[-1] ** 0.5 for s in sizes))


def random_batch(rng, n=N, d=D, classes=CLASSES, dtype=torch.float64):
    X = torch.randn(n, d, generator=rng, dtype=dtype)
    return X, torch.randint(classes, (n,), generator=rng)


def autograd_gradient(weights, X, labels, M1, M2, keep):
    """Return the gradient of W2 as PyTorch finds it, with masks and 1/p written out."""
    W2 = weights.W2.clone().requires_grad_()
    D1 = torch.relu(X @ weights.W1.T + weights.b1) * M1 / keep
    D2 = torch.relu(D1 @ W2.T + weights.b2) * M2 / keep
    loss = F.cross_entropy(D2 @ weights.W3.T + weights.b3, labels)
    return torch.autograd.grad(loss, W2)[0]


@pytest.mark.parametrize("keep", [0.25, 0.8])
def test_the_gradient_of_given_masks_is_autograds(rng, keep):
    weights, (X, labels) = random_weights(rng), random_batch(rng)
    M1 = (torch.rand(3, N, H1, generator=rng) < keep).double()
    M2 = (torch.rand(3, N, H2, generator=rng) < keep).double()
    ours = masked_gradients(weights, X, labels, M1, M2, keep)
    theirs = [autograd_gradient(weights, X, labels, a, b, keep) for a, b in zip(M1, M2)]  # noqa: B905
    torch.testing.assert_close(ours, torch.stack(theirs), rtol=1e-12, atol=1e-14)


def test_one_gradient_by_hand():
    one = torch.ones(1, 1, dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    W3 = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    weights = MLPWeights(3 * one, zero, 0.25 * one, zero, W3, torch.zeros(2, dtype=torch.float64))
    mask = one[None]
    G = masked_gradients(weights, one, torch.tensor([0]), mask, mask, 0.5)
    # D1 = 3 / 0.5 = 6, D2 = 0.25 * 6 / 0.5 = 3, E_0 = sigmoid(3) - 1, S = E_0 / 0.5
    assert G.item() == pytest.approx(6 * (1 / (1 + math.exp(-3)) - 1) / 0.5, rel=1e-12)


def test_without_dropout_nothing_varies_and_the_mean_is_the_plain_gradient(rng):
    weights, (X, labels) = random_weights(rng), random_batch(rng)
    moments = gradient_moments(weights, X, labels, keep=1.0, n_masks=8, generator=rng)
    plain = gradient_without_dropout(weights, X, labels)
    torch.testing.assert_close(moments.mean, plain)
    assert moments.std().max() < 1e-14
    ones = torch.ones(N, H1).double(), torch.ones(N, H2).double()
    torch.testing.assert_close(plain, autograd_gradient(weights, X, labels, *ones, 1.0))


def test_the_stream_is_the_stack_of_the_same_masks(rng, monkeypatch):
    monkeypatch.setattr(gradient_variance, "AT_ONCE", 5 * N * H1)  # five masks at once
    weights, (X, labels) = random_weights(rng), random_batch(rng)
    n_masks, keep = 71, 0.625  # two full blocks and a part, and each ends in a part of five masks
    ours = gradient_moments(
        weights, X, labels, keep=keep, n_masks=n_masks, generator=torch.Generator().manual_seed(5)
    )
    same, stack = torch.Generator().manual_seed(5), []
    for block in (32, 32, 7):
        for k in (5,) * (block // 5) + (block % 5,):
            M1 = draw_masks((k, N, H1), keep, same, X)
            M2 = draw_masks((k, N, H2), keep, same, X)
            stack.append(masked_gradients(weights, X, labels, M1, M2, keep))
    stack = torch.cat(stack)
    assert ours.count == len(stack) == n_masks
    torch.testing.assert_close(ours.mean, stack.mean(0), rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(ours.std(), stack.std(0), rtol=1e-10, atol=1e-14)


def every_mask(n_entries):
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=n_entries)), dtype=torch.float64)


def test_the_moments_are_those_of_all_masks_weighted_by_their_probability(rng):
    n, h1, h2, keep = 1, 4, 3, 0.75
    weights = random_weights(rng, h1=h1, h2=h2)
    X, labels = random_batch(rng, n=n)
    masks = every_mask(n * (h1 + h2))  # 128 outcomes
    M1, M2 = masks[:, :h1, None].transpose(1, 2), masks[:, h1:, None].transpose(1, 2)
    G = masked_gradients(weights, X, labels, M1.contiguous(), M2.contiguous(), keep)
    kept = masks.sum(1)
    p = (keep**kept * (1 - keep) ** (masks.shape[1] - kept))[:, None, None]
    assert p.sum() == pytest.approx(1)
    mean = (p * G).sum(0)
    variance = (p * (G - mean) ** 2).sum(0)
    fourth = (p * (G - mean) ** 4).sum(0)

    n_masks = 20_000
    ours = gradient_moments(weights, X, labels, keep=keep, n_masks=n_masks, generator=rng)
    assert ((ours.mean - mean).abs() <= 4.5 * (variance / n_masks).sqrt() + 1e-15).all()
    error_of_variance = ((fourth - variance**2) / n_masks).sqrt()
    assert ((ours.variance() - variance).abs() <= 4.5 * error_of_variance + 1e-15).all()
    assert variance.max() > 0.01


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_fixed_signals_have_the_closed_form_variance(rng, keep):
    """Every second-layer unit is active and W3 so small that the output does not move."""
    keep = quantised_keep(keep)
    weights, (X, labels) = random_weights(rng), random_batch(rng)
    tiny = MLPWeights(
        weights.W1, weights.b1, weights.W2, weights.b2 + 100, 1e-9 * weights.W3, weights.b3
    )
    hidden = torch.relu(X @ weights.W1.T + weights.b1)
    E = (torch.softmax(weights.b3, 0) - F.one_hot(labels, CLASSES)) / N
    expected = variance_with_fixed_signals(E @ tiny.W3, hidden, keep)
    n_masks = 4000
    ours = gradient_moments(tiny, X, labels, keep=keep, n_masks=n_masks, generator=rng)
    # a sum over N images of products of two scaled Bernoulli: kurtosis at most that of one image
    m2 = keep**-2
    kurtosis = (m2 * keep**-4 - 4 * keep**-4 + 6 * m2 - 3) / (m2 - 1) ** 2
    relative_error = ((kurtosis + 1) / n_masks) ** 0.5
    ratio = ours.variance()[expected > 0] / expected[expected > 0]
    assert (ratio - 1).abs().max() < 4.5 * relative_error
    assert abs(ratio.mean() - 1) < 4.5 * relative_error / N**0.5
    torch.testing.assert_close(ours.mean, (E @ tiny.W3).T @ hidden, rtol=0.3, atol=1e-10)


def test_images_have_masks_of_their_own_so_their_variances_add(rng):
    weights, (X, labels) = random_weights(rng), random_batch(rng)
    n_masks, keep = 6000, 0.5
    whole = gradient_moments(weights, X, labels, keep=keep, n_masks=n_masks, generator=rng)
    single = [
        gradient_moments(
            weights, X[i : i + 1], labels[i : i + 1], keep=keep, n_masks=n_masks, generator=rng
        ).variance()
        for i in range(N)
    ]
    ratio = whole.variance().sum() / (torch.stack(single).sum(0) / N**2).sum()
    assert ratio.item() == pytest.approx(1, abs=0.08)  # 35 entries, 6000 masks, heavy tails


def test_the_error_of_the_std_falls_as_one_over_root_of_masks(rng):
    weights, (X, labels) = random_weights(rng), random_batch(rng)
    keep, sizes, repeats = 0.5, (8, 32, 128), 60

    def error(n_masks):
        stds = [
            gradient_moments(weights, X, labels, keep=keep, n_masks=n_masks, generator=rng).std()
            for _ in range(repeats)
        ]
        return torch.stack(stds).std(0).square().mean().sqrt().log().item()

    errors = [error(n) for n in sizes]
    slope = (errors[-1] - errors[0]) / math.log(sizes[-1] / sizes[0])
    assert slope == pytest.approx(-0.5, abs=0.08)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.8])
def test_masks_keep_the_probability_asked_for_and_no_other_values(rng, keep):
    like = torch.zeros(1, dtype=torch.float32)
    masks = draw_masks((3, 701, 97), keep, rng, like)
    assert masks.dtype == torch.float32
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    p, n = quantised_keep(keep), masks.numel()
    assert abs(masks.double().mean() - p) < 4.5 * (p * (1 - p) / n) ** 0.5
    neighbours = (masks[..., 1:] * masks[..., :-1]).double().mean()
    assert abs(neighbours - p * p) < 4.5 * (p * p * (1 - p * p) / n) ** 0.5 * 2


def test_all_65536_draws_count_and_the_extremes_are_kept_and_dropped(rng):
    like = torch.zeros(1)
    assert draw_masks((100_000,), 1.0, rng, like).min() == 1
    assert draw_masks((4_000_000,), 1 / 65536, rng, like).sum().item() == pytest.approx(61, abs=36)
    assert quantised_keep(0.8) == 52429 / 65536
    assert quantised_keep(0.5) == 0.5


def test_one_generator_gives_the_same_masks_again(rng):
    like = torch.zeros(1)
    again = [draw_masks((5, 3), 0.5, torch.Generator().manual_seed(s), like) for s in (7, 7, 8)]
    assert torch.equal(again[0], again[1])
    assert not torch.equal(again[0], again[2])


def test_float32_agrees_with_float64_far_within_the_masks_own_noise(rng):
    weights, (X, labels) = random_weights(rng), random_batch(rng)
    single = MLPWeights(*(getattr(weights, f).float() for f in weights.__dataclass_fields__))
    found = [
        gradient_moments(
            w, x, labels, keep=0.5, n_masks=300, generator=torch.Generator().manual_seed(3)
        ).std()
        for w, x in ((weights, X), (single, X.float()))
    ]
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-8)


def test_the_stream_reports_every_block_and_can_be_left(rng):
    weights, (X, labels) = random_weights(rng), random_batch(rng)
    stream = stream_gradient_moments(weights, X, labels, keep=0.5, n_masks=70, generator=rng)
    assert [moments.count for moments in stream] == [32, 64, 70]


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.1, 1e-6])
def test_a_keep_probability_out_of_range_is_refused(rng, keep):
    weights, (X, labels) = random_weights(rng), random_batch(rng)
    with pytest.raises(ValueError, match="keep must be a probability above 0 and at most 1"):
        gradient_moments(weights, X, labels, keep=keep, n_masks=4, generator=rng)


def test_one_mask_is_too_few(rng):
    weights, (X, labels) = random_weights(rng), random_batch(rng)
    with pytest.raises(ValueError, match="n_masks must be at least 2"):
        gradient_moments(weights, X, labels, keep=0.5, n_masks=1, generator=rng)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_finds_the_same_moments_from_the_same_masks(rng):
    weights, (X, labels) = random_weights(rng), random_batch(rng)
    there = MLPWeights(*(getattr(weights, f).cuda() for f in weights.__dataclass_fields__))
    found = [
        gradient_moments(
            w, x, y, keep=0.5, n_masks=100, generator=torch.Generator().manual_seed(3)
        ).std()
        for w, x, y in ((weights, X, labels), (there, X.cuda(), labels.cuda()))
    ]
    torch.testing.assert_close(found[1].cpu(), found[0], rtol=1e-9, atol=1e-12)
