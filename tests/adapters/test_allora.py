import pytest
import torch
from torch import nn

from allora_lab.adapters.allora import ALLoRALinear, row_coefficients
from allora_lab.adapters.allora_od import ALLoRAODLinear
from allora_lab.adapters.asf_lora import ASFLoRALinear
from allora_lab.adapters.base import gram_row_norms
from allora_lab.adapters.lora import LoRALinear

D_IN, D_OUT, R = 24, 17, 4


class Listing(torch.autograd.Function):
    """Listing 1 of the paper, with its undefined `LinearLayer2` replaced by the class itself."""

    rsq_scale = 1.0 / 4.0

    @staticmethod
    def forward(ctx, input_x, weight_A, weight_B):
        output = input_x @ weight_A.t() @ weight_B.t()
        norms = torch.norm(weight_B @ weight_A, dim=1)
        ctx.save_for_backward(input_x, weight_A, weight_B, norms)
        return output

    @staticmethod
    def backward(ctx, grad_output):
        input_x, weight_A, weight_B, norms = ctx.saved_tensors
        accelerate = 1.0 / torch.sqrt(norms + Listing.rsq_scale)
        grad_input = grad_output @ weight_B @ weight_A
        temp = grad_output.mul(accelerate) @ weight_B
        temp = torch.transpose(temp, 1, 2)
        grad_weight_A = (temp @ input_x).sum(0)
        temp = grad_output.mul(accelerate).transpose(1, 2)
        grad_weight_B = (temp @ (input_x @ weight_A.t())).sum(0)
        return grad_input, grad_weight_A, grad_weight_B


def layer_of(layer_class, rng, **settings):
    torch.manual_seed(0)
    layer = layer_class(nn.Linear(D_IN, D_OUT).double(), r=R, **settings)
    with torch.no_grad():
        layer.lora_B.normal_(generator=rng)
        layer.lora_B[2] = 0
    return layer


@pytest.fixture
def x(rng):
    return torch.randn(3, 5, D_IN, generator=rng, dtype=torch.float64, requires_grad=True)


def test_gradients_are_those_of_the_papers_listing(rng, x):
    layer = layer_of(ALLoRALinear, rng, eta_squared=4.0)
    weights = torch.randn(3, 5, D_OUT, generator=rng, dtype=torch.float64)
    (layer(x) * weights).sum().backward()
    A, B = (p.detach().clone().requires_grad_() for p in (layer.lora_A, layer.lora_B))
    x_twin = x.detach().clone().requires_grad_()
    y = layer.base_layer(x_twin) + Listing.apply(x_twin, A, B)
    (y * weights).sum().backward()
    torch.testing.assert_close(layer.lora_A.grad, A.grad)
    torch.testing.assert_close(layer.lora_B.grad, B.grad)
    torch.testing.assert_close(x.grad, x_twin.grad)


def test_the_gradient_handed_below_is_exactly_loras(rng, x):
    allora = layer_of(ALLoRALinear, rng, eta_squared=9.0)
    lora = LoRALinear(allora.base_layer, r=R, scaling=1.0)
    lora.load_state_dict(allora.state_dict())
    allora(x).square().sum().backward()
    scaled = x.grad.clone()
    x.grad = None
    lora(x).square().sum().backward()
    torch.testing.assert_close(scaled, x.grad, rtol=1e-12, atol=1e-12)


def test_one_row_by_hand():
    # B = [[3]], A = [[4]]: ||BA|| = 12; eta² = 1/4 gives acc = 1 / sqrt(12 + 4) = 1/4
    layer = ALLoRALinear(nn.Linear(1, 1, bias=False), r=1, eta_squared=0.25)
    layer.load_state_dict(
        {
            "base_layer.weight": torch.tensor([[5.0]]),
            "lora_A": torch.tensor([[4.0]]),
            "lora_B": torch.tensor([[3.0]]),
        }
    )
    x = torch.tensor([2.0], requires_grad=True)
    y = layer(x)
    y.backward()
    assert y.item() == 5 * 2 + 3 * 4 * 2
    assert layer.lora_B.grad.item() == 4 * 2 / 4  # acc · A x
    assert layer.lora_A.grad.item() == 3 * 2 / 4  # acc · B x
    assert x.grad.item() == 5 + 12  # W + BA, unscaled


def test_the_coefficient_is_eta_at_zero_and_falls_as_the_row_grows(rng):
    A = torch.ones(1, 1)
    B = torch.tensor([[0.0], [0.5], [2.0], [1e6]])
    coefficients = row_coefficients(A, B, eta_squared=4.0)
    torch.testing.assert_close(coefficients, (B[:, 0] + 0.25) ** -0.5)
    assert coefficients[0] == 2.0


def test_a_second_backward_is_refused_with_the_reason(rng, x):
    for layer_class in (ALLoRALinear, ALLoRAODLinear):
        layer = layer_of(layer_class, rng, eta_squared=4.0)
        (gradient,) = torch.autograd.grad(layer(x).square().sum(), [x], create_graph=True)
        with pytest.raises(RuntimeError, match="gradient of no function"):
            gradient.square().sum().backward()


def test_output_dependent_gradients_scale_token_by_token(rng, x):
    layer = layer_of(ALLoRAODLinear, rng, eta_squared=4.0)
    weights = torch.randn(3, 5, D_OUT, generator=rng, dtype=torch.float64)
    (layer(x) * weights).sum().backward()
    A, B = layer.lora_A.detach(), layer.lora_B.detach()
    by_token = torch.zeros_like(B), torch.zeros_like(A)
    for token, g in zip(x.detach().reshape(-1, D_IN), weights.reshape(-1, D_OUT), strict=True):
        acc = (abs(B @ A @ token) + 0.25) ** -0.5
        by_token[0].add_(torch.outer(acc * g, A @ token))
        by_token[1].add_(torch.outer(B.T @ (acc * g), token))
    torch.testing.assert_close(layer.lora_B.grad, by_token[0])
    torch.testing.assert_close(layer.lora_A.grad, by_token[1])
    below = weights @ (layer.base_layer.weight + B @ A)
    torch.testing.assert_close(x.grad, below)


def test_adaptive_scaling_factor_by_hand():
    # f = 12 · 2 = 24; eta² = 1 gives 24 / sqrt(24 + 1)
    layer = ASFLoRALinear(nn.Linear(1, 1, bias=False), r=1, eta_squared=1.0)
    with torch.no_grad():
        layer.base_layer.weight.fill_(5.0)
        layer.lora_A.fill_(4.0)
        layer.lora_B.fill_(3.0)
    assert layer(torch.tensor([2.0])).item() == pytest.approx(10 + 24 / 5)


@pytest.mark.parametrize("eta_squared", [0.0, -1.0, float("nan"), float("inf")])
def test_eta_squared_must_be_positive_and_finite(eta_squared):
    for layer_class in (ALLoRALinear, ALLoRAODLinear, ASFLoRALinear):
        with pytest.raises(ValueError, match="eta_squared must be a finite number above 0"):
            layer_class(nn.Linear(D_IN, D_OUT), r=R, eta_squared=eta_squared)


def test_rows_that_nearly_cancel_keep_their_norm_and_their_coefficient():
    A = torch.randn(1, D_IN, generator=torch.Generator().manual_seed(0)).repeat(2, 1) / 3
    B = torch.tensor([[1.1, -1.1 + 2**-18], [1.0, 1.0]])
    exact = (B.double() @ A.double()).norm(dim=1)
    assert 1e-6 < exact[0] < 1e-4
    torch.testing.assert_close(gram_row_norms(A, B).double(), exact, rtol=1e-5, atol=0)
    acc = row_coefficients(A, B, 1e6)
    torch.testing.assert_close(acc.double(), (exact + 1e-6).rsqrt(), rtol=1e-5, atol=0)
    assert acc.dtype == torch.float32
