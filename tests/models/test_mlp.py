"""The network of the variance study: its start, its map, its dropout, and what it refuses."""

import pytest
import torch

from allora_lab.models.mlp import MLP

D, WIDTH, CLASSES = 60, 40, 7


def build(seed=0, dropout=0.25, **sizes):
    sizes = {"d": D, "width": WIDTH, "classes": CLASSES, **sizes}
    return MLP(**sizes, dropout=dropout, generator=torch.Generator().manual_seed(seed))


def test_weights_and_biases_start_uniform_within_one_over_root_fan_in():
    model = build()
    for layer, fan_in in ((model.layer1, D), (model.layer2, WIDTH), (model.layer3, WIDTH)):
        for parameter in (layer.weight, layer.bias):
            assert parameter.abs().max() <= fan_in**-0.5
        std = layer.weight.std().item()
        assert std == pytest.approx(fan_in**-0.5 / 3**0.5, rel=0.15)
    biases = torch.cat([model.layer1.bias, model.layer2.bias])
    assert biases.std().item() == pytest.approx(0.15 / 3**0.5, rel=0.2)


def test_one_generator_gives_one_start_whatever_torchs_own_holds():
    torch.manual_seed(1)
    first = build(3)
    torch.manual_seed(2)
    again, other = build(3), build(4)
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.layer2.weight, other.layer2.weight)


def test_without_dropout_the_map_is_three_layers_with_relu(rng):
    model = build().eval().double()
    X = torch.randn(9, D, generator=rng, dtype=torch.float64)
    hidden = torch.relu(X @ model.layer1.weight.T + model.layer1.bias)
    hidden = torch.relu(hidden @ model.layer2.weight.T + model.layer2.bias)
    torch.testing.assert_close(model(X), hidden @ model.layer3.weight.T + model.layer3.bias)


def test_dropout_drops_its_share_of_both_hidden_layers_and_keeps_their_mean():
    model = build(dropout=0.25).train()
    seen = []
    model.dropout.register_forward_hook(lambda _m, args, out: seen.append((args[0], out)))
    torch.manual_seed(0)
    model(torch.ones(2000, D))
    assert len(seen) == 2
    for before, after in seen:
        active = before > 0
        share = (after[active] == 0).double().mean().item()
        error = (0.25 * 0.75 / active.sum().item()) ** 0.5
        assert abs(share - 0.25) < 4.5 * error
        assert after[active].mean().item() == pytest.approx(before[active].mean().item(), rel=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width must be at least 1"),
        ({"d": 0}, "d must be at least 1"),
        ({"classes": 0}, "classes must be at least 1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
    ],
)
def test_a_wrong_size_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        build(**change)
