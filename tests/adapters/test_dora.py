import torch
from torch import nn

from allora_lab.adapters.dora import DoRALinear


def test_a_row_by_hand():
    # W = (3, 4), BA = (6, 8), s = 1/2: W + s·BA = (6, 8)
    layer = DoRALinear(nn.Linear(2, 1, bias=True), r=1, scaling=0.5)
    with torch.no_grad():
        layer.base_layer.weight.copy_(torch.tensor([[3.0, 4.0]]))
        layer.base_layer.bias.fill_(100.0)
        layer.lora_A.copy_(torch.tensor([[3.0, 4.0]]))
        layer.lora_B.fill_(2.0)
        layer.lora_magnitude_vector.fill_(20.0)
    # the direction is (6, 8) / 10, so the row is 20 · (0.6, 0.8) = (12, 16)
    y = layer(torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(y, torch.tensor([12.0 + 16.0 + 100.0]))
    torch.testing.assert_close(layer.merged_weight(), torch.tensor([[12.0, 16.0]]))


def test_norms_of_the_direction_are_those_of_the_whole_weight(rng):
    torch.manual_seed(0)
    layer = DoRALinear(nn.Linear(24, 17).double(), r=4, scaling=1.7)
    with torch.no_grad():
        layer.lora_B.normal_(generator=rng)
    whole = layer.base_layer.weight + 1.7 * layer.lora_B @ layer.lora_A
    torch.testing.assert_close(layer.direction_norms(), whole.norm(dim=1))


def test_a_row_of_zeros_stays_finite_forward_backward_and_merged():
    base = torch.nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        base.weight[1] = 0
    layer = DoRALinear(base, r=2, scaling=1.0)
    y = layer(torch.ones(4))
    y.sum().backward()
    assert y[1] == 0
    assert layer.lora_magnitude_vector.grad.isfinite().all()
    assert layer.lora_B.grad.isfinite().all()
    assert layer.merged_weight().isfinite().all()
