"""The contract every adapter keeps; a new method is one more row in CASES."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from allora_lab import (
    METHODS,
    adapter_state_dict,
    inject_adapters,
    load_adapter_state_dict,
    merge_adapters,
)
from allora_lab.adapters.base import gram_row_norms, linear_weight
from allora_lab.adapters.lora import LoRALinear

D_IN, D_OUT, R = 24, 17, 4  # all different, so a transposed matrix cannot pass


@dataclass(frozen=True, kw_only=True)
class Case:
    """One method under the contract: what it is built with, and where it differs from LoRA.

    `trains` are the tensors it trains and `first_reached` those that a first step's gradient
    reaches; `starts` is None for A uniform at a linear layer's scale and B at 0, a deviation for A
    and B normal, "own" for a start that the method's own tests hold; `update` is the (d_out, d_in)
    matrix whose rows' norms are `row_norms`, where it is not BA.
    """

    built_with: dict[str, float] = field(default_factory=lambda: {"lora_alpha": 8})
    trains: set[str] = field(default_factory=lambda: {"lora_A", "lora_B"})
    first_reached: set[str] = field(default_factory=lambda: {"lora_B"})
    starts: float | str | None = None
    update: Callable[[nn.Module], torch.Tensor] = lambda layer: layer.lora_B @ layer.lora_A


def gated(layer, gates):
    return layer.lora_B @ gates.diag() @ layer.lora_A


ETA = {"eta_squared": 3.0}
CASES = {
    "lora": Case(),
    "lora-fixed-scale": Case(built_with=ETA),
    "rslora": Case(),
    "dora": Case(
        trains={"lora_A", "lora_B", "lora_magnitude_vector"},
        first_reached={"lora_B", "lora_magnitude_vector"},
    ),
    "allora": Case(built_with=ETA),
    "allora-dropout": Case(built_with=ETA),
    "allora-od": Case(built_with=ETA),
    "asf-lora": Case(built_with=ETA),
    "allora-update": Case(built_with=ETA),
    "alora-ablation": Case(),
    "alora-dnas": Case(
        trains={"lora_A", "lora_B", "lora_gate_logit"},
        update=lambda layer: gated(layer, 2 / (1 + torch.exp(-layer.lora_gate_logit))),
    ),
    "alora-sensitivity": Case(),
    "alora-magnitude": Case(),
    "alora-random": Case(),
    "sora": Case(
        trains={"lora_A", "lora_B", "lora_gate"},
        update=lambda layer: gated(layer, layer.lora_gate),
    ),
    "adalora": Case(
        trains={"lora_A", "lora_B", "lora_E"},
        first_reached={"lora_E"},
        starts=0.02,
        update=lambda layer: gated(layer, layer.lora_E),
    ),
}
STARTS_NORMAL = {key: case.starts for key, case in CASES.items() if type(case.starts) is float}


def test_every_method_of_the_table_is_tested_here():
    assert CASES.keys() == METHODS.keys()


@pytest.fixture(params=CASES)
def method(request):
    return request.param


def adapted(method, base=None, **changes):
    torch.manual_seed(0)
    base = base or nn.Linear(D_IN, D_OUT).double()
    model = nn.ModuleDict({"query": base})
    generator = torch.Generator().manual_seed(1)
    inject_adapters(
        model, method, r=R, **{**CASES[method].built_with, **changes}, generator=generator
    )
    return model


def trained(method, **changes):
    """Return an adapted layer whose factors have moved away from their start, without dropout."""
    model = adapted(method, **changes)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
                parameter.add_(0.3 * noise)
    return model.eval()


def gradients(layer, dtype=None):
    """Return copies of the gradients of what trains, by name."""
    trained = {n: p for n, p in layer.named_parameters() if p.requires_grad}
    return {n: p.grad.to(dtype or p.dtype, copy=True) for n, p in trained.items()}


@pytest.fixture
def x(rng):
    return torch.randn(3, 5, D_IN, generator=rng, dtype=torch.float64)


def test_starts_as_the_pretrained_layer(method, x):
    layer = adapted(method)["query"]
    torch.testing.assert_close(layer(x), layer.base_layer(x), rtol=1e-12, atol=1e-12)


def test_only_the_adapter_is_trainable(method):
    layer = adapted(method)["query"]
    trainable = {name for name, p in layer.named_parameters() if p.requires_grad}
    assert trainable == CASES[method].trains


@pytest.mark.parametrize("method", [key for key, case in CASES.items() if case.starts is None])
def test_A_starts_uniform_at_the_scale_of_a_linear_layer_and_B_at_zero(method):
    layer = adapted(method, base=nn.Linear(500, 300).double())["query"]
    assert layer.lora_A.shape == (R, 500)
    assert layer.lora_A.abs().max() <= 500**-0.5
    assert layer.lora_A.std().item() == pytest.approx(500**-0.5 / 3**0.5, rel=0.05)
    assert torch.equal(layer.lora_B, torch.zeros(300, R, dtype=torch.float64))


@pytest.mark.parametrize("method", STARTS_NORMAL)
def test_factors_that_start_normal_have_the_deviation_of_the_table(method):
    layer = adapted(method, base=nn.Linear(500, 300).double())["query"]
    for factor in (layer.lora_A, layer.lora_B):
        assert factor.std().item() == pytest.approx(STARTS_NORMAL[method], rel=0.06)
        assert factor.abs().max() > 2.5 * STARTS_NORMAL[method]  # no uniform start reaches so far
    correlation = (layer.lora_A[:, :300] * layer.lora_B.T).mean() / STARTS_NORMAL[method] ** 2
    assert abs(correlation.item()) < 0.1


def test_gradient_reaches_only_what_the_table_says_on_the_first_step(method, x):
    layer = adapted(method)["query"].eval()
    layer(x).square().sum().backward()
    trained = {n: p.grad.abs().max() for n, p in layer.named_parameters() if p.requires_grad}
    reached = {name for name, largest in trained.items() if largest > 0}
    assert reached == CASES[method].first_reached  # what is zero blocks the rest


def test_what_is_saved_gives_back_every_tensor_that_is_not_pretrained(method, x):
    model = trained(method)
    other = adapted(method)  # the same pretrained layer under adapters that start elsewhere
    with torch.no_grad():
        for name, tensor in other["query"].state_dict().items():
            if not name.startswith("base_layer."):
                tensor.normal_(generator=torch.Generator().manual_seed(3))
    assert not torch.allclose(other.eval()["query"](x), model["query"](x))
    load_adapter_state_dict(other, adapter_state_dict(model))
    torch.testing.assert_close(other["query"](x), model["query"](x), rtol=0, atol=0)


def test_pretrained_weights_get_no_gradient(method, x):
    layer = trained(method)["query"]
    layer(x).square().sum().backward()
    assert layer.base_layer.weight.grad is None
    assert layer.base_layer.bias.grad is None


def test_forward_in_eval_is_the_merged_layer_or_the_merge_is_refused(method, x):
    model = trained(method)
    layer, before = model["query"], model["query"](x)
    if not layer.is_mergeable:
        with pytest.raises(ValueError, match="cannot be merged"):
            merge_adapters(model)
        torch.testing.assert_close(model["query"](x), before, rtol=0, atol=0)
        return
    merged = linear_weight(layer.base_layer) + layer.delta_weight()
    torch.testing.assert_close(merged, layer.merged_weight())
    assert type(merge_adapters(model)["query"]) is nn.Linear
    torch.testing.assert_close(model["query"](x), before)


def test_a_layer_stored_transposed_as_gpt2_does_computes_the_same(method, x):
    linear, conv = nn.Linear(D_IN, D_OUT).double(), Conv1D(D_OUT, D_IN).double()
    conv.weight.data, conv.bias.data = linear.weight.data.T.clone(), linear.bias.data.clone()
    layer = trained(method, base=linear)["query"]
    twin = trained(method, base=conv)
    torch.testing.assert_close(twin["query"](x), layer(x))
    if layer.is_mergeable:
        assert type(merge_adapters(twin)["query"]) is Conv1D
        torch.testing.assert_close(twin["query"](x), layer(x))


@pytest.mark.parametrize("shape", [(D_IN,), (7, D_IN), (3, 5, D_IN), (2, 3, 5, D_IN), (0, D_IN)])
def test_any_leading_dimensions_are_taken(method, shape, rng):
    layer = trained(method)["query"]
    x = torch.randn(shape, generator=rng, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    assert y.shape == (*shape[:-1], D_OUT)
    y.sum().backward()
    assert x.grad.shape == shape


def test_gradients_of_a_batch_are_the_sum_over_its_tokens(method, x):
    layer = trained(method)["query"]
    layer(x).square().sum().backward()
    whole = gradients(layer)
    layer.zero_grad()
    for token in x.reshape(-1, D_IN):
        layer(token).square().sum().backward()
    torch.testing.assert_close(gradients(layer), whole)


def test_natural_gradients_agree_with_finite_differences_and_others_do_not(method, x):
    layer = trained(method)["query"]
    x = x[0, :2].clone().requires_grad_()

    def output(x, A, B):
        return torch.func.functional_call(layer, {"lora_A": A, "lora_B": B}, (x,))

    A, B = (p.detach().clone().requires_grad_() for p in (layer.lora_A, layer.lora_B))
    is_natural = torch.autograd.gradcheck(output, (x, A, B), raise_exception=False)
    assert is_natural == METHODS[method].is_gradient_natural


def test_row_norms_are_those_of_its_update(method):
    layer = trained(method)["query"]
    update = CASES[method].update(layer)
    torch.testing.assert_close(layer.row_norms(), update.norm(dim=1))


def test_the_same_generator_gives_the_same_start(method):
    torch.testing.assert_close(
        adapted(method)["query"].lora_A, adapted(method)["query"].lora_A, rtol=0, atol=0
    )


@pytest.mark.parametrize("wanted", [None, 0.0, 0.3])
def test_dropout_is_what_was_asked_for_or_the_methods_own(method, wanted, x):
    layer = adapted(method, lora_dropout=wanted)["query"]
    p = layer.dropout.p if isinstance(layer.dropout, nn.Dropout) else 0.0
    assert p == (METHODS[method].lora_dropout if wanted is None else wanted)


def test_dropout_reaches_the_input_of_A_and_not_the_pretrained_weight(method, x):
    layer = trained(method, lora_dropout=0.3)["query"]
    torch.manual_seed(7)
    dropped = layer.dropout.train()(x)
    assert 0.2 < (dropped == 0).double().mean() < 0.4
    with torch.no_grad():
        layer.base_layer.weight.zero_()  # what is left has passed through A
        torch.manual_seed(7)
        y = layer.train()(x)
        torch.testing.assert_close(y, layer.eval()(dropped))
        layer.base_layer.weight.fill_(0.1)
        layer.lora_B.zero_()  # and what is left now has not
        torch.testing.assert_close(layer.train()(x), layer.eval()(x))


def test_a_layer_adapted_by_hand_is_frozen_too():
    layer = LoRALinear(nn.Linear(D_IN, D_OUT), r=R, scaling=1.0)
    assert not any(p.requires_grad for p in layer.base_layer.parameters())


def test_norms_of_bfloat16_factors_are_as_good_as_the_factors(rng):
    A = torch.randn(R, 512, generator=rng).bfloat16()
    B = torch.randn(D_OUT, R, generator=rng).bfloat16()
    norms = gram_row_norms(A, B)
    exact = (B.double() @ A.double()).norm(dim=1)
    torch.testing.assert_close(norms.double(), exact, rtol=1e-5, atol=0)


def test_bfloat16_weights_give_bfloat16_outputs_and_float32_gradients(method, x):
    layer = adapted(method, base=nn.Linear(D_IN, D_OUT).to(torch.bfloat16))["query"]
    with torch.no_grad():
        layer.lora_B.normal_(generator=torch.Generator().manual_seed(5))
        layer.lora_B.copy_(layer.lora_B.bfloat16())  # as the forward pass rounds it
    exact = trained(method, base=nn.Linear(D_IN, D_OUT).double())["query"]
    exact.load_state_dict(layer.state_dict())
    y = layer.eval()(x.bfloat16())
    y.sum().backward()
    exact.eval()(x.bfloat16().double()).sum().backward()
    assert y.dtype == torch.bfloat16
    assert {g.dtype for g in gradients(layer).values()} == {torch.float32}
    wide = gradients(layer, torch.float64)
    torch.testing.assert_close(wide, gradients(exact), rtol=0.1, atol=0.2)


def test_autocast_gives_the_low_precision_type_and_float32_gradients(method):
    layer = adapted(method, base=nn.Linear(D_IN, D_OUT))["query"]
    x = torch.randn(3, 5, D_IN, generator=torch.Generator().manual_seed(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    mixed = gradients(layer)
    assert {gradient.dtype for gradient in mixed.values()} == {torch.float32}
    layer.zero_grad()
    layer.eval()(x).sum().backward()
    if not METHODS[method].lora_dropout:
        torch.testing.assert_close(mixed, gradients(layer), rtol=0.05, atol=0.2)


def test_gradient_checkpointing_changes_no_gradient(method, x):
    layer = trained(method)["query"]
    layer(x).square().sum().backward()
    plain = gradients(layer)
    layer.zero_grad()
    y = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
    y.square().sum().backward()
    torch.testing.assert_close(gradients(layer), plain, rtol=0, atol=0)


def test_vmap_over_samples_gives_each_samples_own_gradient(method, x):
    layer = trained(method)["query"]
    factors = {n: p.detach() for n, p in layer.named_parameters() if p.requires_grad}

    def loss(factors, x):
        return torch.func.functional_call(layer, factors, (x,)).square().sum()

    together = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(factors, x)
    for place, sample in enumerate(x):
        own = {name: gradient[place] for name, gradient in together.items()}
        torch.testing.assert_close(own, torch.func.grad(loss)(factors, sample))


def test_rank_must_fit_the_layer(method):
    for r in (0, -1, D_OUT + 1):
        with pytest.raises(ValueError, match="r must be at"):
            inject_adapters(nn.ModuleDict({"query": nn.Linear(D_IN, D_OUT)}), method, r=r)


def test_gram_norms_never_form_BA_yet_agree_with_it(rng):
    A = torch.randn(R, D_IN, generator=rng, dtype=torch.float64)
    B = torch.randn(D_OUT, R, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(gram_row_norms(A, B), (B @ A).norm(dim=1))
    B[3] = 0
    assert gram_row_norms(A, B)[3] == 0
