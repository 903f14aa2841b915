import copy
import warnings

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, AdamW
from transformers.optimization import Adafactor

from allora_lab import export_peft, inject_adapters
from allora_lab.adapters.allora_update import wrap_optimizer
from allora_lab.allocation.resize import resize_ranks
from allora_lab.sidecar import read_sidecar

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


def sgd(model):
    return SGD(trainable(model), lr=0.1)


def two_layers(method, rng, **settings):
    torch.manual_seed(0)
    model = nn.ModuleDict({n: nn.Linear(24, 17).double() for n in ("query", "value")})
    return inject_adapters(model, method, r=4, generator=rng, **settings)


def test_an_optimizer_wrapped_already_is_refused(rng):
    model = adapted(rng)
    with pytest.raises(ValueError, match="already"):
        wrap_optimizer(wrap_optimizer(sgd(model), model), model)


@pytest.mark.parametrize("method", ["allora", "allora-od", "allora-dropout", "asf-lora"])
def test_a_method_with_a_coefficient_of_its_own_is_refused(method, rng):
    model = two_layers(method, rng)
    with pytest.raises(ValueError, match="twice"):
        wrap_optimizer(sgd(model), model, 4.0)


def test_a_model_without_adapters_is_refused():
    model = nn.ModuleDict({"query": nn.Linear(24, 17)})
    with pytest.raises(ValueError, match="inject_adapters"):
        wrap_optimizer(sgd(model), model, 4.0)


def test_an_optimizer_built_before_injection_is_refused(rng):
    model = nn.ModuleDict({"query": nn.Linear(24, 17)})
    optimizer = SGD(model.parameters(), lr=0.1)
    inject_adapters(model, "allora-update", r=4, generator=rng)
    with pytest.raises(ValueError, match="holds no adapter"):
        wrap_optimizer(optimizer, model, 4.0)


def test_an_optimizer_that_needs_a_closure_is_refused(rng):
    model = adapted(rng)
    with pytest.raises(ValueError, match="LBFGS"):
        wrap_optimizer(LBFGS(trainable(model)), model)


def test_the_eta_squared_of_the_injection_is_the_wrappers(rng):
    model = two_layers("allora-update", rng, eta_squared=9.0)
    assert wrap_optimizer(sgd(model), model).eta_squared == 9.0
    with pytest.raises(ValueError, match=r"9\.0, not 4\.0"):
        wrap_optimizer(sgd(model), model, 4.0)
    default = two_layers("allora-update", rng)
    assert wrap_optimizer(sgd(default), default).eta_squared == 4.0
    assert wrap_optimizer(sgd(default), default, 2.0).eta_squared == 2.0
    plain = two_layers("lora", rng)
    with pytest.raises(ValueError, match="unknown"):
        wrap_optimizer(sgd(plain), plain)


def test_the_eta_squared_that_steps_were_rescaled_by_is_exported(rng, tmp_path):
    model = two_layers("allora-update", rng)
    wrap_optimizer(sgd(model), model, 2.0)
    export_peft(model, tmp_path)
    sidecar = read_sidecar(tmp_path)
    assert (sidecar.method, sidecar.eta_squared) == ("allora-update", 2.0)


def test_a_factor_shared_by_two_layers_steps_once_by_the_mean_coefficient(rng):
    model = two_layers("allora-update", rng)
    first, second = model["query"], model["value"]
    with torch.no_grad():
        first.lora_B.normal_(generator=rng)
        second.lora_B.normal_(std=3.0, generator=rng)
    second.lora_A = first.lora_A
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    acc = [(((m.lora_B @ m.lora_A).norm(dim=1) + 0.25) ** -0.5).detach() for m in model.values()]
    for parameter in trainable(model):
        parameter.grad = torch.ones_like(parameter)
    wrap_optimizer(sgd(model), model).step()
    moved_A = first.lora_A - start["query.lora_A"]
    expected = -0.1 * torch.cat(acc).mean()
    torch.testing.assert_close(moved_A, expected.expand_as(moved_A))
    for layer, name, rows in ((first, "query", acc[0]), (second, "value", acc[1])):
        moved_B = layer.lora_B - start[f"{name}.lora_B"]
        torch.testing.assert_close(moved_B, -0.1 * rows[:, None].expand_as(moved_B))


def test_tied_layers_step_by_the_coefficient_and_not_by_its_square(rng):
    model = two_layers("allora-update", rng, eta_squared=9.0)
    model["value"].lora_A, model["value"].lora_B = model["query"].lora_A, model["query"].lora_B
    for parameter in trainable(model):
        parameter.grad = torch.ones_like(parameter)
    wrap_optimizer(sgd(model), model).step()
    torch.testing.assert_close(
        model["query"].lora_B.detach(), torch.full((17, 4), -0.3, dtype=torch.float64)
    )


@pytest.mark.parametrize("is_told", [True, False])
def test_ranks_that_come_are_rescaled_or_refused(is_told, rng):
    model = two_layers("alora-ablation", rng)
    optimizer = wrap_optimizer(sgd(model), model, 9.0)
    layers = dict(model.items())
    told = [optimizer] if is_told else []
    resize_ranks(layers, {n: [0] for n in layers}, dict.fromkeys(layers, 2), optimizers=told)
    for layer in layers.values():
        for factor in (layer.lora_A, layer.lora_B):
            factor.grad = torch.ones_like(factor)
    if is_told:
        optimizer.step()
        for layer in layers.values():
            torch.testing.assert_close(
                layer.lora_B.detach(), torch.full((17, 3), -0.3, dtype=torch.float64)
            )
    else:
        with pytest.raises(ValueError, match="add_param_group"):
            optimizer.step()


def test_each_of_two_wrapped_optimizers_takes_half_of_the_adapters(rng):
    model = two_layers("allora-update", rng)
    halves = [wrap_optimizer(SGD([m.lora_A, m.lora_B], lr=0.1), model, 4.0) for m in model.values()]
    for parameter in trainable(model):
        parameter.grad = torch.ones_like(parameter)
    for half in halves:
        half.step()
    for layer in model.values():
        torch.testing.assert_close(
            layer.lora_B.detach(), torch.full((17, 4), -0.2, dtype=torch.float64)
        )


def test_a_plain_and_a_wrapped_optimizer_refuse_each_others_state(build, rng):
    model = adapted(rng)
    plain, wrapped = build(trainable(model)), wrap_optimizer(build(trainable(model)), model)
    with pytest.raises(ValueError, match="plain optimizer"):
        wrapped.load_state_dict(plain.state_dict())
    with pytest.raises(ValueError, match="parameter groups"):
        plain.load_state_dict(wrapped.state_dict())


def test_a_state_saved_before_it_was_marked_is_taken(rng):
    model = adapted(rng)
    old = {**sgd(model).state_dict(), "eta_squared": 4.0}
    wrap_optimizer(sgd(model), model).load_state_dict(old)


def test_training_without_the_wrapper_warns_once(rng):
    model = adapted(rng)
    with pytest.warns(UserWarning, match="wrap_optimizer") as caught:
        take_steps(model, sgd(model), 4)
    assert len(caught) == 1


def test_inference_gradients_and_wrapped_training_do_not_warn(build, rng):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = adapted(rng)
        x = torch.ones(2, 24, dtype=torch.float64)
        for _ in range(2):  # gradients that are accumulated, and no step between
            model["query"](x).sum().backward()
        take_steps(model, wrap_optimizer(build(trainable(model)), model), 3)
        model.eval()["query"](x)
