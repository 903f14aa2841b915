"""The loop on a tiny random BERT with its dropout and LoRA's on: stop, kill, resume, refuse."""

import functools
import json
import resource
import signal
from contextlib import contextmanager

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification

from allora_lab import inject_adapters
from allora_lab.adapters.allora_update import wrap_optimizer
from allora_lab.data.batches import EncodedSplit, batch_at
from allora_lab.methods import METHODS
from allora_lab.training import loop
from allora_lab.training.checkpoint import _digest
from allora_lab.training.interrupt import Terminated
from allora_lab.training.loop import NonFiniteLossError, train
from allora_lab.training.optimizers import build_optimizer

STEPS = 6
GENERATOR = torch.Generator().manual_seed(0)
SPLIT = EncodedSplit(
    tuple(
        tuple(torch.randint(3, 50, (int(n),), generator=GENERATOR).tolist())
        for n in torch.randint(4, 12, (40,), generator=GENERATOR)
    ),
    tuple(torch.randint(0, 2, (40,), generator=GENERATOR).tolist()),
    pad_token_id=0,
)


def tiny(method="allora", optimizer="adamw", lr=0.05):
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        hidden_dropout_prob=0.1,
    )
    model = BertForSequenceClassification(config)
    inject_adapters(model, method, r=2, lora_dropout=0.3)
    built = build_optimizer(optimizer, model, lr=lr, head_lr=0.02, weight_decay=0.01)
    if METHODS[method].wrap_optimizer:
        built = wrap_optimizer(built, model, 4.0)
    return model, built


batches = functools.partial(batch_at, SPLIT, batch_size=8, seed=7)


def fit(model, optimizer, **changes):
    settings = {"steps": STEPS, "seed": 7, "run_id": "tiny", "trace_steps": (2, 4), **changes}
    batch = settings.pop("batch_at", lambda step: batches(step=step))
    return train(model, optimizer, batch, **settings)


def weights(model):
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def assert_same(model, twin):
    for name, tensor in weights(model).items():
        assert torch.equal(tensor, twin.get_parameter(name)), name


def stop_after(count):
    asked = iter(range(100))
    return lambda: next(asked) >= count


CASES = [
    ("allora", "sgd"),
    ("dora", "adamw"),
    ("lora", "adafactor"),
    ("allora-update", "sgd"),
    ("allora-update", "adamw"),
    ("allora-update", "adafactor"),
]


@pytest.mark.parametrize(("method", "optimizer"), CASES)
def test_a_stopped_run_resumes_to_the_same_bits(method, optimizer, tmp_path):
    whole, parts = tiny(method, optimizer), tiny(method, optimizer)
    progress = fit(*whole)
    path = tmp_path / "run.safetensors"
    assert fit(*parts, checkpoint=path, should_stop=stop_after(3)).done == 3
    torch.manual_seed(999)  # whatever the new process's random state happens to be
    fresh = tiny(method, optimizer)
    torch.manual_seed(5)
    assert fit(*fresh, checkpoint=path) == progress
    assert_same(fresh[0], whole[0])


def test_a_killed_run_resumes_from_its_last_save(tmp_path):
    class Killed(BaseException):
        pass

    def kill(progress):
        if progress.done == 5:
            raise Killed

    path = tmp_path / "run.safetensors"
    with pytest.raises(Killed):
        fit(*tiny(), checkpoint=path, save_every=2, on_step=kill)
    whole, fresh = tiny(), tiny()
    assert fit(*fresh, checkpoint=path) == fit(*whole)
    assert_same(fresh[0], whole[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.safetensors"]


@pytest.mark.parametrize("moment", ["between steps", "within a step"])
def test_ctrl_c_finishes_the_step_saves_and_resumes_to_the_same_bits(moment, tmp_path):
    path = tmp_path / "run.safetensors"

    def press(progress):
        if moment == "between steps" and progress.done == 3:
            signal.raise_signal(signal.SIGINT)

    def batch(step):
        if moment == "within a step" and step == 3:
            signal.raise_signal(signal.SIGINT)
        return batches(step=step)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(*tiny(), checkpoint=path, on_step=press, batch_at=batch)
    assert signal.getsignal(signal.SIGINT) is before
    whole, fresh = tiny(), tiny()
    assert fit(*fresh, checkpoint=path) == fit(*whole)
    assert_same(fresh[0], whole[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_sigterm_saves_the_step_at_hand_as_ctrl_c_does(number, tmp_path):
    path = tmp_path / "run.safetensors"

    def stop(progress):
        if progress.done == 3:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as raised:
        fit(*tiny(), checkpoint=path, on_step=stop)
    assert isinstance(raised.value, Terminated) == (number == signal.SIGTERM)
    assert signal.getsignal(number) is before
    whole, fresh = tiny(), tiny()
    assert fit(*fresh, checkpoint=path) == fit(*whole)
    assert_same(fresh[0], whole[0])


@contextmanager
def full_disk():
    """Let no file grow beyond 100 bytes inside the block, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_at_a_checkpoint_costs_the_checkpoint_and_not_the_run(tmp_path):
    path, notes, fresh, whole = tmp_path / "run.safetensors", [], tiny(), tiny()
    with full_disk():
        progress = fit(*fresh, checkpoint=path, save_every=4, on_note=notes.append)
    assert progress == fit(*whole)
    assert_same(fresh[0], whole[0])
    assert "space" in notes[0]
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_run_that_cannot_be_saved_says_so(tmp_path):
    path, parts = tmp_path / "run.safetensors", tiny()
    with full_disk(), pytest.raises(OSError, match="space"):
        fit(*parts, checkpoint=path, should_stop=stop_after(2))
    assert list(tmp_path.iterdir()) == []


FORGED = {
    "done of another type": lambda h: h.update(done="2"),
    "done below zero": lambda h: h.update(done=-1),
    "more done than the trace has": lambda h: h.update(done=5),
    "more done than there is to do": lambda h: (
        h.update(done=10**6),
        h["trace"].update(loss=[0.5] * 10**6),
    ),
    "trace of another type": lambda h: h.update(trace=[1, 2]),
    "a loss that is no number": lambda h: h["trace"].update(loss=["a", 0.5]),
    "a loss too many": lambda h: h["trace"]["loss"].append(0.5),
    "norms without a step": lambda h: h["trace"].update(row_norm_mean=[0.0] * 7),
    "no optimizer": lambda h: h.pop("optimizer"),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_checkpoint_is_refused(forge, tmp_path):
    path = tmp_path / "run.safetensors"
    fit(*tiny(), checkpoint=path, should_stop=stop_after(2))
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["allora_lab"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    forge(header)
    text = json.dumps(header)
    save_file(tensors, path, {"allora_lab": text, "sha256": _digest(text, tensors)})
    with pytest.raises(ValueError, match="altered"):
        fit(*tiny(), checkpoint=path)


def test_a_checkpoint_of_another_run_is_refused_and_kept(tmp_path):
    path = tmp_path / "run.safetensors"
    fit(*tiny(), checkpoint=path, should_stop=stop_after(2))
    content = path.read_bytes()
    with pytest.raises(ValueError, match="belongs to the run tiny, not other"):
        fit(*tiny(), checkpoint=path, run_id="other")
    assert path.read_bytes() == content


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    fit(*tiny(), checkpoint=path, should_stop=stop_after(2))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match="is damaged"):
        fit(*tiny(), checkpoint=path)


def test_another_programs_file_is_not_taken_for_a_checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a checkpoint of allora_lab"):
        fit(*tiny(), checkpoint=path)


def test_a_loss_that_is_not_finite_stops_before_the_step_and_says_which():
    model, optimizer = tiny()
    fit(model, optimizer, steps=2)
    with torch.no_grad():
        model.classifier.bias[0] = float("nan")
    before = weights(model)
    with pytest.raises(NonFiniteLossError, match=r"nan at step 1 of 6: lower lr"):
        fit(model, optimizer)
    for name, tensor in weights(model).items():
        assert torch.equal(tensor, before[name]) or name == "classifier.bias"


def test_tracing_more_often_changes_no_number():
    often, seldom = tiny(), tiny()
    a, b = fit(*often, trace_steps=range(10)), fit(*seldom, trace_steps=())
    assert a.trace["loss"] == b.trace["loss"]
    assert a.trace["step"] == [0, 1, 2, 3, 4, 5, 6]
    assert b.trace["step"] == [0, 6]
    assert_same(often[0], seldom[0])


def test_pretrained_weights_never_move():
    model, optimizer = tiny()
    before = weights(model)
    fit(model, optimizer)
    moved = {n for n, t in weights(model).items() if not torch.equal(t, before[n])}
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    assert moved == trainable


def test_the_rate_factor_multiplies_every_groups_own_rate():
    model, optimizer = tiny(optimizer="sgd", lr=0.5)
    fit(model, optimizer, steps=1, rate_factor=lambda step: 0.25)
    assert [g["lr"] for g in optimizer.param_groups] == [0.125, 0.005]


def test_a_rate_of_zero_moves_nothing():
    model, optimizer = tiny(optimizer="sgd")
    before = weights(model)
    fit(model, optimizer, rate_factor=lambda step: 0.0)
    assert all(torch.equal(t, before[n]) for n, t in weights(model).items())


def test_clipping_bounds_the_gradient_of_all_trainable_tensors_together():
    clipped, free = tiny(optimizer="sgd"), tiny(optimizer="sgd")
    fit(*free, steps=1)
    fit(*clipped, steps=1, clip_norm=1e-3)
    norms = [
        torch.stack([p.grad.norm() for p in model.parameters() if p.requires_grad]).norm().item()
        for model, _ in (free, clipped)
    ]
    assert norms[0] > 1e-2
    assert norms[1] == pytest.approx(1e-3, rel=1e-4)


def test_the_seed_changes_the_run():
    a, b = fit(*tiny(), seed=7), fit(*tiny(), seed=8)  # the batches here do not depend on it
    assert a.trace["loss"] != b.trace["loss"]


def test_no_method_is_named_in_the_loop():
    source = loop.__loader__.get_source(loop.__name__)
    assert not [key for key in METHODS if f'"{key}"' in source or f"'{key}'" in source]


def test_a_finished_run_leaves_its_checkpoint_and_is_not_trained_again(tmp_path):
    path = tmp_path / "run.safetensors"
    first = fit(*tiny(), checkpoint=path)
    whole, fresh = tiny(), tiny()
    fit(*whole)
    assert fit(*fresh, checkpoint=path, batch_at=lambda step: pytest.fail("it trained")) == first
    assert_same(fresh[0], whole[0])


@pytest.mark.parametrize("place", [0.1, 0.5, 0.99])
def test_a_checkpoint_with_one_altered_byte_is_refused_and_changes_nothing(place, tmp_path):
    path = tmp_path / "run.safetensors"
    fit(*tiny(), checkpoint=path, should_stop=stop_after(2))
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")  # behind safetensors' own header
    content[start + int(place * (len(content) - start))] ^= 4
    path.write_bytes(content)
    model, optimizer = tiny()
    before = weights(model)
    with pytest.raises(ValueError, match="is damaged or was altered"):
        fit(model, optimizer, checkpoint=path)
    assert_same(model, tiny()[0])
    assert before.keys() == weights(model).keys()


@pytest.mark.parametrize("method", ["lora", "allora", "allora-update"])
def test_train_works_with_float64_as_torchs_default(method):
    torch.set_default_dtype(torch.float64)
    try:
        progress = fit(*tiny(method))
    finally:
        torch.set_default_dtype(torch.float32)
    assert progress.done == STEPS
