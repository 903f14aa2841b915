"""What the plan says of memory, against torch's account of the same step done for real."""

import json

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import BertConfig, GPT2Config, LlamaConfig

from allora_lab import METHODS, inject_adapters
from allora_lab.files import REPOSITORY
from allora_lab.models.load import TASKS
from allora_lab.planning.memory import (
    GIB,
    WHOLE_DEPTH,
    optimizer_bytes,
    rehearsed,
    step_memory,
    usable_bytes,
)
from allora_lab.planning.rehearsal import rehearse
from allora_lab.planning.shapes import build_on_meta, count_parameters, read_shape
from allora_lab.training.optimizers import OPTIMIZERS, build_optimizer

TOLERANCE = 0.01  # of the peak; stated in planning/memory.py


def bert(layers=2):
    return BertConfig(
        vocab_size=200,
        hidden_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=160,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=0,
    )


def llama(layers=2):
    return LlamaConfig(
        vocab_size=200,
        hidden_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=160,
        max_position_embeddings=128,
        pad_token_id=0,
        use_cache=False,
    )


def gpt2(layers=2):
    return GPT2Config(vocab_size=200, n_embd=64, n_layer=layers, n_head=4, n_positions=128)


FAMILIES = {"bert": bert, "llama": llama, "gpt2": gpt2}


def real(config, method, task="sequence-classification", r=4):
    """Build the same on the CPU, with torch's own fused attention."""
    model = TASKS[task].from_config(config, attn_implementation="sdpa")
    return inject_adapters(model, method, r=r, target_modules="all-linear").train()


def measured_peak(run):
    """Return the most bytes a call has allocated at once, by torch's account."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    now = peak = 0
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("method", ["lora", "allora", "allora-update", "allora-od", "dora"])
def test_a_rehearsed_step_takes_what_the_recorded_one_took(method):
    record = json.loads((REPOSITORY / "results" / "cost" / "step.json").read_text())
    model = build_on_meta(
        read_shape("minilm")[0], method, r=record["r"], target_modules=record["target_modules"]
    )
    found = rehearse(model, batch_size=record["batch"], tokens=record["tokens"])
    assert found.peak == pytest.approx(record["peak_bytes"][method], rel=TOLERANCE)


@pytest.mark.parametrize("is_checkpointed", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_rehearsed_step_takes_what_a_step_takes_here(family, method, is_checkpointed):
    config = FAMILIES[family]()
    model = real(config, method)
    if is_checkpointed:
        model.activation_checkpointing_enable({"use_reentrant": False})
    ids = torch.randint(0, 200, (8, 48), generator=torch.Generator().manual_seed(0))
    peak = measured_peak(lambda: model(input_ids=ids, labels=ids[:, 0] % 2).loss.backward())
    planned = build_on_meta(config, method, r=4, target_modules="all-linear")
    found = rehearse(planned, batch_size=8, tokens=48, is_checkpointed=is_checkpointed)
    slack = 64 * 1024 if is_checkpointed else 0  # the saved states of the random generator
    assert found.peak == pytest.approx(peak, rel=TOLERANCE, abs=slack)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_counted_is_what_is_trained(method):
    model = real(bert(), method)
    planned = build_on_meta(bert(), method, r=4, target_modules="all-linear")
    assert count_parameters(planned) == count_parameters(model)
    assert {p.device.type for p in planned.parameters()} == {"meta"}
    memory = step_memory(bert(), method=method, r=4, target_modules="all-linear", max_length=16)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert memory.adapters == memory.gradients == sum(p.nbytes for p in trained)
    assert memory.weights == sum(p.nbytes for p in model.parameters()) - memory.adapters


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_keeps_what_is_planned(optimizer):
    model = real(bert(), "dora")
    made = build_optimizer(optimizer, model, lr=0.1, head_lr=0.1, weight_decay=0.0)
    model(input_ids=torch.ones(2, 3, dtype=torch.long), labels=torch.tensor([0, 1])).loss.backward()
    made.step()
    kept = [v for state in made.state.values() for v in state.values()]
    tensors = [v for v in kept if isinstance(v, torch.Tensor) and v.dim() > 0]
    trained = sum(p.requires_grad for p in model.parameters())
    planned = optimizer_bytes(
        build_on_meta(bert(), "dora", r=4, target_modules="all-linear"), optimizer
    )
    scalars = 4 * trained if optimizer == "adamw" else 0
    assert planned == sum(t.nbytes for t in tensors) + scalars


@pytest.mark.parametrize("is_checkpointed", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_deep_model_is_rehearsed_from_its_first_layers(family, is_checkpointed):
    config = FAMILIES[family](WHOLE_DEPTH + 3)
    build = {"method": "allora", "r": 4, "target_modules": "all-linear", "dtype": "bfloat16"}
    sizes = {"batch_size": 4, "is_checkpointed": is_checkpointed}
    whole = rehearse(build_on_meta(config, **build), tokens=40, **sizes)
    short = rehearsed(config, build, max_length=40, **sizes)
    assert short.peak == pytest.approx(whole.peak, rel=TOLERANCE)
    assert short.kept == pytest.approx(whole.kept, rel=TOLERANCE)


def test_checkpointing_and_bfloat16_keep_less_and_the_rest_stays():
    build = {"method": "lora", "r": 4, "target_modules": "all-linear"}
    plain = step_memory(llama(4), **build)
    checkpointed = step_memory(llama(4), **build, is_checkpointed=True)
    narrow = step_memory(llama(4), **build, dtype="bfloat16")
    assert checkpointed.activations < 0.6 * plain.activations
    assert checkpointed.weights == plain.weights == 2 * narrow.weights
    assert narrow.adapters == plain.adapters  # trained tensors stay float32
    assert narrow.activations < 0.7 * plain.activations
    parts = (plain.weights, plain.adapters, plain.gradients, plain.optimizer, plain.activations)
    assert plain.total == sum(parts)


def test_a_gpu_keeps_a_gibibyte_and_a_twentieth_of_the_rest():
    assert usable_bytes(21) == 19 * GIB
    assert usable_bytes(0.5) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"max_length": 129}, "max_length must be at most 128, the positions this model has"),
        ({"dtype": "float16"}, "unknown dtype 'float16'"),
        ({"task": "chat"}, "unknown task 'chat'"),
        ({"optimizer": "sdg"}, "did you mean 'sgd'"),
        ({"r": 65}, "r must be at most"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(change, message):
    build = {"method": "lora", "target_modules": "all-linear", **change}
    with pytest.raises(ValueError, match=message) as caught:
        step_memory(llama(), **build)
    assert "\n" not in str(caught.value)
