"""The methods that move ranks, in the loop: when they act, on which data, and how they resume."""

import functools
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification

from allora_lab import inject_adapters
from allora_lab.allocation.hook import TrainingHook
from allora_lab.allocation.places import gated_layers, ranks_by_module
from allora_lab.allocation.settings import AllocationSettings, HookContext
from allora_lab.data.batches import batch_at, collate, halves
from allora_lab.methods import METHODS
from allora_lab.training import checkpoint as checkpoints
from allora_lab.training.loop import train
from allora_lab.training.optimizers import OPTIMIZERS, build_optimizer

from .test_loop import SPLIT, assert_same, stop_after, weights

STEPS = 6
FIRST, SECOND = halves(SPLIT)
HELD_OUT = collate(SPLIT, range(6))
batches = functools.partial(batch_at, batch_size=8, seed=7)
RANK_METHODS = [key for key, method in METHODS.items() if method.build_hook]

# When each method acts in six steps.
SCHEDULES = {
    **{key: {"first_round": 2, "round_every": 2, "ranks_moved": 4} for key in RANK_METHODS},
    "sora": {"first_round": 1, "round_every": 1, "gate_threshold": 0.3, "gate_penalty": 3.0},
    "adalora": {"first_round": 1, "round_every": 1, "rank_budget": 5},
}
MOVES = {**{key: [2, 4] for key in RANK_METHODS}, "sora": [6], "adalora": [1, 2, 3]}


def test_there_are_seven_methods_that_move_ranks():
    assert len(RANK_METHODS) == 7


def tiny(method, optimizer="adamw", lr=0.05, *, moved=False, steps=STEPS, dropout=0.1, **settings):
    """Return model, optimizer and hook, the optimizer without what the hook steps itself."""
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        hidden_dropout_prob=dropout,
    )
    model = BertForSequenceClassification(config)
    inject_adapters(model, method, r=2, lora_dropout=3 * dropout)
    if moved:
        for layer in gated_layers(model).values():
            layer.lora_B.data.normal_()
    row = METHODS[method]
    built = build_optimizer(
        optimizer, model, lr=lr, head_lr=0.02, weight_decay=0.01, without=row.own_parameters
    )
    other = settings.pop("other", lambda step: batches(SECOND, step=step))
    context = HookContext(
        model=model,
        optimizer=built,
        settings=AllocationSettings(**{**SCHEDULES[method], **settings}),
        steps=steps,
        seed=7,
        score_batch=HELD_OUT,
        other_batch_at=other,
    )
    return model, built, row.build_hook(context)


def fit(model, optimizer, hook, **changes):
    settings = {"steps": STEPS, "seed": 7, "run_id": "tiny", "trace_steps": (2, 4), **changes}
    batch = settings.pop("batch_at", lambda step: batches(FIRST, step=step))
    return train(model, optimizer, batch, hook=hook, **settings)


@pytest.mark.parametrize("method", RANK_METHODS)
def test_a_run_stopped_at_any_step_resumes_to_the_same_bits(method, tmp_path):
    whole = tiny(method)
    progress = fit(*whole, clip_norm=0.5)
    assert progress.trace["allocation"]["step"] == MOVES[method]
    for stop in range(1, STEPS + 1):
        path = tmp_path / f"{stop}.safetensors"
        parts = tiny(method)
        stopped = fit(*parts, checkpoint=path, should_stop=stop_after(stop), clip_norm=0.5)
        assert stopped.done == stop
        torch.manual_seed(999)
        fresh = tiny(method)
        torch.manual_seed(5)
        assert fit(*fresh, checkpoint=path, clip_norm=0.5) == progress
        assert_same(fresh[0], whole[0])
        assert weights(fresh[0]).keys() == weights(whole[0]).keys()


@pytest.mark.parametrize("method", ["alora-ablation", "alora-dnas", "adalora"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_any_optimizer_resumes_right_after_ranks_have_moved(method, optimizer, tmp_path):
    whole = tiny(method, optimizer)
    progress = fit(*whole)
    path = tmp_path / "run.safetensors"
    fit(*tiny(method, optimizer), checkpoint=path, should_stop=stop_after(2))
    fresh = tiny(method, optimizer)
    assert fit(*fresh, checkpoint=path) == progress
    assert_same(fresh[0], whole[0])


@pytest.mark.parametrize("method", RANK_METHODS)
def test_a_run_stopped_at_every_step_resumes_to_the_same_bits(method, tmp_path):
    whole, path = tiny(method), tmp_path / "run.safetensors"
    progress = fit(*whole)
    for done in range(1, STEPS + 1):
        parts = tiny(method)
        assert fit(*parts, checkpoint=path, should_stop=stop_after(1)).done == done
    assert fit(*tiny(method), checkpoint=path) == progress
    assert_same(parts[0], whole[0])


def test_a_budget_below_r_resumes_too(tmp_path):
    whole, path = tiny("alora-sensitivity", rank_budget=5), tmp_path / "run.safetensors"
    progress = fit(*whole)
    assert sum(progress.trace["allocation"]["ranks"][n][0] for n in gated_layers(whole[0])) <= 5
    fit(*tiny("alora-sensitivity", rank_budget=5), checkpoint=path, should_stop=stop_after(3))
    fresh = tiny("alora-sensitivity", rank_budget=5)
    assert fit(*fresh, checkpoint=path) == progress
    assert_same(fresh[0], whole[0])


@pytest.mark.parametrize("method", [m for m in RANK_METHODS if m.startswith("alora")])
def test_rounds_come_at_exactly_K1_and_K2_steps_and_the_total_is_conserved(method):
    model, optimizer, hook = tiny(
        method, steps=12, first_round=3, round_every=2, rounds=3, ranks_moved=2
    )
    total = sum(ranks_by_module(gated_layers(model)).values())
    seen = []

    def watch(progress):
        seen.append(ranks_by_module(gated_layers(model)))

    trace = fit(model, optimizer, hook, steps=12, on_step=watch).trace["allocation"]
    assert trace["step"] == [3, 5, 7]
    starts = [dict.fromkeys(seen[0], 2), *seen[:-1]]
    moved = [i + 1 for i, (a, b) in enumerate(zip(starts, seen, strict=True)) if a != b]
    assert set(moved) <= {3, 5, 7}
    assert 3 in moved
    assert all(sum(ranks.values()) == total for ranks in seen)
    assert {n: r[-1] for n, r in trace["ranks"].items()} == seen[-1]
    for name, rows in trace["scores"].items():
        assert [len(row) for row in rows] == [2, *trace["ranks"][name][:-1]]


@pytest.mark.parametrize("method", RANK_METHODS)
def test_what_is_traced_is_json_and_the_losses_are_those_before_the_penalty(method):
    trace = fit(*tiny(method)).trace
    assert json.loads(json.dumps(trace)) == trace
    model, *_ = tiny(method)
    torch.manual_seed(7 * 1_000_003)
    loss = model.train()(**batches(FIRST, step=0)).loss.item()
    assert trace["loss"][0] == pytest.approx(loss, rel=1e-5)
    assert len(trace["loss"]) == STEPS


def only(model, part):
    return {n: t for n, t in weights(model).items() if n.endswith(part)}


def differ(a, b):
    return any(not torch.equal(a[n], b[n]) for n in a)


def flipped(batch):
    return {**batch, "labels": 1 - batch["labels"]}


def dnas(*, first=lambda b: b, second=lambda b: b, rate=1.0):
    """Return the weights after two steps in which one half's labels may be others."""
    model, optimizer, hook = tiny(
        "alora-dnas",
        moved=True,
        first_round=5,
        gate_lr=0.1,
        other=lambda step: second(batches(SECOND, step=step)),
    )
    fit(
        *(model, optimizer, hook),
        steps=1,
        batch_at=lambda step: first(batches(FIRST, step=step)),
        rate_factor=lambda step: rate,
    )
    return model


def test_t_learns_from_the_second_half_and_A_and_B_from_the_first():
    start, plain = tiny("alora-dnas", moved=True)[0], dnas()
    other_second, other_first = dnas(second=flipped), dnas(first=flipped, rate=0.0)
    for part in ("lora_A", "lora_B", "classifier.weight"):
        assert differ(only(plain, part), only(start, part))
        assert not differ(only(plain, part), only(other_second, part))
        assert not differ(only(other_first, part), only(start, part))
    assert differ(only(plain, "lora_gate_logit"), only(start, "lora_gate_logit"))
    assert differ(only(plain, "lora_gate_logit"), only(other_second, "lora_gate_logit"))
    still = dnas(rate=0.0)  # the weights stay, so t is moved by nothing but the second half
    assert not differ(only(still, "lora_gate_logit"), only(other_first, "lora_gate_logit"))


def test_the_two_halves_share_no_sentence_and_leave_none_out():
    assert FIRST.token_ids + SECOND.token_ids == SPLIT.token_ids
    assert FIRST.labels + SECOND.labels == SPLIT.labels
    assert len(FIRST) == len(SECOND) == 20


def test_clipping_is_of_what_the_optimizer_steps_and_of_nothing_else():
    model, optimizer, hook = tiny("alora-dnas", "sgd", moved=True)
    gates = [layer.lora_gate_logit for layer in gated_layers(model).values()]

    def pull():
        for t in gates:
            t.grad = torch.full_like(t, 1e3)

    hook.after_backward = pull
    fit(model, optimizer, hook, steps=1, clip_norm=1e-3)
    stepped = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.stack([p.grad.norm() for p in stepped]).norm().item()
    assert norm == pytest.approx(1e-3, rel=1e-4)


def test_soras_gates_are_thresholded_after_every_step_and_cut_at_the_end():
    model, optimizer, hook = tiny("sora")
    gates = []

    def watch(progress):
        gates.append(torch.cat([m.lora_gate.detach() for m in gated_layers(model).values()]))

    progress = fit(model, optimizer, hook, on_step=watch)
    assert [len(g) for g in gates[:-1]] == [8] * 5
    assert (gates[0] == 0).any()
    assert len(gates[-1]) == sum(ranks_by_module(gated_layers(model)).values()) < 8
    assert (gates[-1] != 0).all()
    ranks = {n: r[0] for n, r in progress.trace["allocation"]["ranks"].items()}
    assert ranks == ranks_by_module(gated_layers(model))


def test_a_penalty_pulls_though_it_is_not_in_the_loss():
    norms = [
        torch.cat([m.lora_gate for m in gated_layers(model).values()]).abs().sum().item()
        for penalty in (1e-6, 100.0)
        for model, *rest in [tiny("sora", "sgd", gate_penalty=penalty, gate_threshold=1e-9)]
        if fit(model, *rest, steps=1)
    ]
    assert norms[1] < norms[0] - 1


def test_adaloras_cut_leaves_the_budget_and_nothing_comes_back():
    model, optimizer, hook = tiny("adalora")
    seen = []

    def watch(progress):
        seen.append({n: m.lora_E.detach().clone() for n, m in gated_layers(model).items()})

    fit(model, optimizer, hook, on_step=watch)
    sizes = [sum(map(len, row.values())) for row in seen]
    assert sizes == [8, 8, 5, 5, 5, 5]
    assert all((e != 0).all() for row in seen[2:] for e in row.values())


class Order(TrainingHook):
    """Writes down when it is asked."""

    def __init__(self, model):
        self.model, self.asked = model, []

    def penalty(self):
        self.asked.append("penalty")
        return 2 * self.model.classifier.bias.sum()

    def after_backward(self):
        self.asked.append("backward")
        self.gradient = self.model.classifier.bias.grad.clone()
        self.before = self.model.classifier.bias.detach().clone()

    def after_step(self, done):
        self.asked.append(done)
        self.moved = self.model.classifier.bias.detach() - self.before
        return {"seen": done} if done % 2 else None


def test_a_hook_is_asked_in_order_and_sees_gradients_before_they_are_clipped():
    model, optimizer, _ = tiny("alora-random", "sgd", dropout=0.0)
    torch.manual_seed(0)
    model(**batches(FIRST, step=0)).loss.backward()
    plain = model.classifier.bias.grad.clone()
    model.zero_grad()
    hook = Order(model)
    progress = fit(model, optimizer, hook, steps=1, clip_norm=1e-3)
    assert hook.asked == ["penalty", "backward", 1]
    torch.testing.assert_close(hook.gradient, plain + 2, rtol=1e-4, atol=1e-5)
    assert 0 < hook.moved.abs().max() < 1e-4
    assert progress.trace["seen"] == [1]


def test_a_checkpoint_from_before_there_were_hooks_still_loads(tmp_path):
    path = tmp_path / "run.safetensors"
    model, optimizer, _ = tiny("alora-random")
    fit(model, optimizer, None, checkpoint=path, should_stop=stop_after(2))
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["allora_lab"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert header.pop("hook") == {}
    text = json.dumps(header)
    save_file(tensors, path, {"allora_lab": text, "sha256": checkpoints._digest(text, tensors)})
    fresh = tiny("alora-random")
    assert fit(*fresh[:2], None, checkpoint=path).done == STEPS


@pytest.mark.parametrize("method", RANK_METHODS)
def test_ranks_that_leave_free_the_optimizers_memory(method):
    model, optimizer, hook = tiny(method)
    fit(model, optimizer, hook)
    named = dict(model.named_parameters())
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    own = METHODS[method].own_parameters
    wanted = {n for n, p in named.items() if p.requires_grad and n.rpartition(".")[2] not in own}
    assert held == {id(named[n]) for n in wanted}
    assert {id(p) for p in optimizer.state} <= held
    for parameter, state in optimizer.state.items():
        for value in state.values():
            assert value.dim() == 0 or value.shape == parameter.shape
