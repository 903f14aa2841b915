"""Gated layers by hand: what each computes, and how ranks leave and come."""

import pytest
import torch
from torch import nn

from allora_lab.adapters.adalora import AdaLoRALinear
from allora_lab.adapters.gated import GatedLinear
from allora_lab.adapters.lora import LoRALinear
from allora_lab.adapters.relaxed_gate import RelaxedGateLinear
from allora_lab.adapters.sora import SoRALinear

CLASSES = [GatedLinear, RelaxedGateLinear, SoRALinear, AdaLoRALinear]
GATE = {RelaxedGateLinear: "lora_gate_logit", SoRALinear: "lora_gate", AdaLoRALinear: "lora_E"}


def by_hand(layer_class, gate=None):
    """Return W = (1, 2; 3, 4), b = (10, 20), s = 1/2, A = (1, 1; 1, -1), B = (2, 4; 6, 8)."""
    layer = layer_class(nn.Linear(2, 2), r=2, scaling=0.5)
    with torch.no_grad():
        layer.base_layer.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        layer.base_layer.bias.copy_(torch.tensor([10.0, 20.0]))
        layer.lora_A.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        layer.lora_B.copy_(torch.tensor([[2.0, 4.0], [6.0, 8.0]]))
        if gate is not None:
            getattr(layer, GATE[layer_class]).copy_(torch.tensor(gate))
    return layer


# x = (2, 1): W x + b = (14, 30), A x = (3, 1), and s B (g ∘ A x) = (3 g1 + 2 g2, 9 g1 + 4 g2)
HAND = [
    (GatedLinear, None, (1.0, 1.0)),
    (SoRALinear, [3.0, -1.0], (3.0, -1.0)),
    (AdaLoRALinear, [0.0, 5.0], (0.0, 5.0)),
    (RelaxedGateLinear, [0.0, 1.0986123], (1.0, 1.5)),  # 2 sigmoid(ln 3) = 2 · 3/4
]


@pytest.mark.parametrize(("layer_class", "gate", "g"), HAND)
def test_a_layer_by_hand(layer_class, gate, g):
    layer = by_hand(layer_class, gate)
    g1, g2 = g
    expected = torch.tensor([14 + 3 * g1 + 2 * g2, 30 + 9 * g1 + 4 * g2])
    torch.testing.assert_close(layer(torch.tensor([2.0, 1.0])), expected)
    merged = torch.tensor(
        [
            [1 + 0.5 * (2 * g1 + 4 * g2), 2 + 0.5 * (2 * g1 - 4 * g2)],
            [3 + 0.5 * (6 * g1 + 8 * g2), 4 + 0.5 * (6 * g1 - 8 * g2)],
        ]
    )
    torch.testing.assert_close(layer.merged_weight(), merged)
    # ||s g_k B_k A_k|| = |g_k| / 2 · ||B_k|| · √2, with ||B_1||² = 40 and ||B_2||² = 80
    norms = torch.tensor([abs(g1) * 20**0.5, abs(g2) * 40**0.5])
    torch.testing.assert_close(layer.rank_norms(), norms)


def test_a_gate_frozen_at_one_is_lora(rng):
    torch.manual_seed(0)
    gated = GatedLinear(nn.Linear(5, 3).double(), r=2, scaling=0.7)
    lora = LoRALinear(nn.Linear(5, 3).double(), r=2, scaling=0.7)
    gated.lora_B.data.normal_(generator=rng)
    lora.load_state_dict(gated.state_dict())
    x = torch.randn(4, 5, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(gated(x), lora(x), rtol=1e-13, atol=1e-13)


def test_soras_gates_start_standard_normal_and_after_A_from_the_same_source():
    layer = SoRALinear(
        nn.Linear(400, 400), r=400, scaling=1.0, generator=torch.Generator().manual_seed(0)
    )
    assert layer.lora_gate.std().item() == pytest.approx(1, rel=0.1)
    assert abs(layer.lora_gate.mean().item()) < 0.15
    twin = GatedLinear(
        nn.Linear(400, 400), r=400, scaling=1.0, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(layer.lora_A, twin.lora_A)


def test_relaxed_gates_start_at_one_and_singular_values_at_zero():
    assert RelaxedGateLinear(nn.Linear(4, 4), r=3, scaling=1.0).gates().tolist() == [1, 1, 1]
    assert AdaLoRALinear(nn.Linear(4, 4), r=3, scaling=1.0).lora_E.tolist() == [0, 0, 0]


def moved(layer_class, r=3, dtype=torch.float64):
    torch.manual_seed(0)
    layer = layer_class(nn.Linear(5, 4).to(dtype), r=r, scaling=0.7)
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.requires_grad:
                parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    return layer


@pytest.mark.parametrize("layer_class", CLASSES)
def test_ranks_that_stay_keep_their_bits_and_new_ones_change_nothing(layer_class):
    layer, x = moved(layer_class), torch.randn(6, 5, dtype=torch.float64)
    before = {name: getattr(layer, name).detach().clone() for name in layer.RANK_AXIS}
    alone = layer(x).detach()
    layer.resize(torch.tensor([0, 1, 2]), torch.randn(2, 5))
    torch.testing.assert_close(layer(x), alone, rtol=1e-14, atol=1e-14)
    layer.resize(torch.tensor([2, 0, 4]), torch.ones(1, 5))
    assert layer.r == 4
    assert (layer.lora_A.shape, layer.lora_B.shape) == ((4, 5), (4, 4))
    for name, axis in layer.RANK_AXIS.items():
        kept = getattr(layer, name).index_select(axis, torch.tensor([0, 1]))
        assert torch.equal(kept, before[name].index_select(axis, torch.tensor([2, 0])))
    assert torch.equal(layer.lora_A[3], torch.ones(5, dtype=torch.float64))
    assert torch.equal(layer.lora_B[:, 2:], torch.zeros(4, 2, dtype=torch.float64))
    for name in layer.RANK_AXIS.keys() - {"lora_A", "lora_B"}:
        assert getattr(layer, name)[2:].tolist() == [0, 0]


@pytest.mark.parametrize("layer_class", CLASSES)
def test_a_layer_without_ranks_is_the_pretrained_one_and_can_be_trained(layer_class):
    layer, x = moved(layer_class), torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    layer.resize(torch.tensor([], dtype=torch.long), torch.zeros(0, 5))
    y = layer(x)
    torch.testing.assert_close(y, layer.base_layer(x), rtol=0, atol=0)
    y.sum().backward()
    torch.testing.assert_close(x.grad, layer.base_layer.weight.sum(dim=0).expand(6, 5))
    torch.testing.assert_close(layer.merged_weight(), layer.base_layer.weight, rtol=0, atol=0)
    assert layer.row_norms().tolist() == [0] * 4
    assert layer.rank_norms().shape == (0,)
    layer.resize(torch.tensor([], dtype=torch.long), torch.ones(2, 5))
    assert (layer.r, layer.lora_A.dtype) == (2, torch.float64)
    torch.testing.assert_close(layer(x), layer.base_layer(x), rtol=0, atol=0)


@pytest.mark.parametrize("layer_class", CLASSES)
def test_a_resize_names_the_tensors_it_replaced_and_frees_their_memory(layer_class):
    layer = moved(layer_class)
    old = {name: getattr(layer, name) for name in layer.RANK_AXIS}
    replaced = layer.resize(torch.tensor([1]), torch.zeros(0, 5))
    assert {id(k) for k in replaced} == {id(p) for p in old.values()}
    assert all(replaced[old[name]] is getattr(layer, name) for name in old)
    for new in replaced.values():
        assert new.requires_grad
        assert new.is_leaf
        assert new.untyped_storage().nbytes() == new.numel() * 8
    assert layer.lora_A.numel() + layer.lora_B.numel() == 5 + 4


def test_what_does_not_train_does_not_train_after_a_resize():
    layer = moved(GatedLinear)
    layer.lora_A.requires_grad_(False)
    layer.resize(torch.tensor([0]), torch.zeros(1, 5))
    assert (layer.lora_A.requires_grad, layer.lora_B.requires_grad) == (False, True)


def test_the_scale_stays_what_it_was_when_ranks_leave():
    layer = by_hand(GatedLinear)
    layer.resize(torch.tensor([1]), torch.zeros(0, 2))
    assert layer.scaling == 0.5
    torch.testing.assert_close(layer(torch.tensor([2.0, 1.0])), torch.tensor([16.0, 34.0]))
