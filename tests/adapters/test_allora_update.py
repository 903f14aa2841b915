import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from transformers.optimization import Adafactor

from allora_lab import inject_adapters
from allora_lab.adapters.allora_update import wrap_optimizer

OPTIMIZERS = {
    "sgd": lambda p: SGD(p, lr=0.1, momentum=0.9),
    "adamw": lambda p: AdamW(p, lr=0.01, weight_decay=0.1),
    "adafactor": lambda p: Adafactor(p, lr=0.01, scale_parameter=False, relative_step=False),
}


@pytest.fixture(params=OPTIMIZERS)
def build(request):
    return OPTIMIZERS[request.param]


def adapted(rng, is_at_zero=False):
    torch.manual_seed(0)
    model = nn.ModuleDict({"query": nn.Linear(24, 17).double()})
    inject_adapters(model, "allora-update", r=4, generator=rng)
    if not is_at_zero:
        with torch.no_grad():
            model["query"].lora_B.normal_(generator=rng)
    return model


def trainable(model):
    return [p for p in model.parameters() if p.requires_grad]


def take_steps(model, optimizer, steps, seed=0):
    for step in range(steps):
        generator = torch.Generator().manual_seed(seed + step)
        x = torch.randn(9, 24, generator=generator, dtype=torch.float64)
        optimizer.zero_grad()
        model["query"](x).square().sum().backward()
        optimizer.step()


def test_one_sgd_step_by_hand():
    # B = 3, A = 4: acc = 1 / √(12 + 1/4) with eta² = 4; gradients 2 and 5, lr 0.1
    model = nn.ModuleDict({"query": nn.Linear(1, 1, bias=False).double()})
    layer = inject_adapters(model, "allora-update", r=1)["query"]
    with torch.no_grad():
        layer.lora_B.fill_(3.0)
        layer.lora_A.fill_(4.0)
    layer.lora_B.grad = torch.full_like(layer.lora_B, 2.0)
    layer.lora_A.grad = torch.full_like(layer.lora_A, 5.0)
    wrap_optimizer(SGD(trainable(model), lr=0.1), model, 4.0).step()
    acc = 12.25**-0.5
    assert layer.lora_B.item() == pytest.approx(3 - acc * 0.2)
    assert layer.lora_A.item() == pytest.approx(4 - acc * 0.5)


def test_every_optimizers_step_is_rescaled_row_by_row_with_the_coefficient_before_it(build, rng):
    model = adapted(rng)
    plain = copy.deepcopy(model)
    before = copy.deepcopy(model["query"])
    take_steps(plain, build(trainable(plain)), 1)
    take_steps(model, wrap_optimizer(build(trainable(model)), model, 2.0), 1)
    acc = ((before.lora_B @ before.lora_A).norm(dim=1) + 0.5) ** -0.5
    moved_B = acc[:, None] * (plain["query"].lora_B - before.lora_B)
    moved_A = acc.mean() * (plain["query"].lora_A - before.lora_A)
    torch.testing.assert_close(model["query"].lora_B - before.lora_B, moved_B)
    torch.testing.assert_close(model["query"].lora_A - before.lora_A, moved_A)


def test_rows_at_zero_step_eta_times_as_far_under_adam_where_scaled_gradients_do_not(rng):
    steps = {}
    for method, eta_squared in (("lora", None), ("allora", 9.0), ("allora-update", 9.0)):
        torch.manual_seed(0)
        model = nn.ModuleDict({"query": nn.Linear(24, 17).double()})
        generator = torch.Generator().manual_seed(1)
        inject_adapters(model, method, r=4, eta_squared=eta_squared or 1.0, generator=generator)
        optimizer = AdamW(trainable(model), lr=0.01)
        if method == "allora-update":
            optimizer = wrap_optimizer(optimizer, model, eta_squared)
        take_steps(model, optimizer, 1)
        steps[method] = model["query"].lora_B.detach()
    torch.testing.assert_close(steps["allora-update"], 3 * steps["lora"])
    torch.testing.assert_close(steps["allora"], steps["lora"], rtol=1e-4, atol=0)  # Adam's epsilon


def test_with_eta_squared_1_a_row_at_zero_steps_as_without(build, rng):
    model = adapted(rng, is_at_zero=True)
    plain = copy.deepcopy(model)
    take_steps(model, wrap_optimizer(build(trainable(model)), model, 1.0), 1)
    take_steps(plain, build(trainable(plain)), 1)
    torch.testing.assert_close(model["query"].lora_B, plain["query"].lora_B)


def test_a_restored_state_continues_bit_for_bit(build, rng):
    whole = adapted(rng)
    parts = copy.deepcopy(whole)
    take_steps(whole, wrap_optimizer(build(trainable(whole)), whole, 4.0), 5)
    first = wrap_optimizer(build(trainable(parts)), parts, 4.0)
    take_steps(parts, first, 3)
    second = wrap_optimizer(build(trainable(parts)), parts, 4.0)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    take_steps(parts, second, 2, seed=3)
    assert torch.equal(parts["query"].lora_B, whole["query"].lora_B)
    assert torch.equal(parts["query"].lora_A, whole["query"].lora_A)


def test_a_state_of_another_eta_squared_is_refused(rng):
    model = adapted(rng)
    state = wrap_optimizer(SGD(trainable(model), lr=0.1), model, 4.0).state_dict()
    with pytest.raises(ValueError, match=r"eta_squared 4\.0, not 2\.0"):
        wrap_optimizer(SGD(trainable(model), lr=0.1), model, 2.0).load_state_dict(state)


def test_torchs_schedulers_drive_the_inner_rate_also_after_loading(rng):
    model = adapted(rng)
    optimizer = wrap_optimizer(SGD(trainable(model), lr=1.0), model, 4.0)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    take_steps(model, optimizer, 1)
    scheduler.step()
    assert optimizer.inner.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize("eta_squared", [0.0, float("nan")])
def test_eta_squared_must_be_positive_and_finite(eta_squared, rng):
    model = adapted(rng)
    with pytest.raises(ValueError, match="eta_squared"):
        wrap_optimizer(SGD(trainable(model), lr=0.1), model, eta_squared)


def test_a_copy_of_model_and_optimizer_goes_on_as_the_original_does(build, rng):
    model = adapted(rng)
    optimizer = wrap_optimizer(build(trainable(model)), model, 4.0)
    take_steps(model, optimizer, 2)
    twin, copied = copy.deepcopy((model, optimizer))
    take_steps(model, optimizer, 2, seed=2)
    take_steps(twin, copied, 2, seed=2)
    assert torch.equal(twin["query"].lora_B, model["query"].lora_B)
    assert copied.layers[0].lora_A is twin["query"].lora_A
