"""Operations by the formula, against torch's own count of what is computed."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from allora_lab.allocation.importance import plain_scores
from allora_lab.planning.shapes import build_on_meta
from allora_lab.planning.throughput import GPUS, find_gpu, operations, scoring_round

from .test_memory import bert, llama, real

BATCH, TOKENS = 2, 24


def counted(model, backward):
    ids = torch.randint(0, 200, (BATCH, TOKENS), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as forward:
        loss = model(input_ids=ids, labels=ids).loss
    with FlopCounterMode(display=False) as back:
        loss.backward()
    return (back if backward else forward).get_total_flops() / (BATCH * TOKENS)


def eager(config):
    config._attn_implementation = "eager"
    model = real(config, "lora", task="causal-lm")
    model.set_attn_implementation("eager")  # torch's counter sees its two products whole
    return model


@pytest.mark.parametrize("backward", [False, True])
def test_the_formula_is_what_torch_counts(backward):
    config = llama(6)
    model = eager(config)
    planned = operations(
        build_on_meta(config, "lora", r=4, target_modules="all-linear", task="causal-lm"), TOKENS
    )
    attention = 4 * TOKENS * 64 * 6 * 0.5  # which the eager form computes whole, not by half
    formula = planned.backward + 2 * attention if backward else planned.forward + attention
    found = counted(model, backward)
    # three matrices of the lowest layer read what needs no gradient
    unread = 2 * (64 * 64 + 2 * 32 * 64) + 2 * 4 * 3 * 64 if backward else 0
    assert formula - unread == pytest.approx(found, rel=1e-3)


def test_a_step_with_checkpointing_computes_the_forward_pass_twice():
    cost = operations(build_on_meta(bert(), "lora", r=4), TOKENS)
    assert cost.step() == cost.forward + cost.backward
    assert cost.step(is_checkpointed=True) == 2 * cost.forward + cost.backward


def test_a_scoring_round_is_as_many_forward_passes_as_the_definition_makes():
    model = real(bert(), "alora-ablation", r=2).eval()
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    ids = torch.ones(3, 5, dtype=torch.long)
    plain_scores(model, {"input_ids": ids, "labels": torch.tensor([0, 1, 0])})
    planned = build_on_meta(bert(), "alora-ablation", r=2, target_modules="all-linear")
    cost = scoring_round(planned, TOKENS)
    assert cost.forwards == len(passes) == 2 * cost.ranks + 1
    forward = operations(planned, TOKENS).forward
    assert cost.operations == pytest.approx(cost.forwards * 32 * TOKENS * forward)


def test_every_gpu_has_a_peak_of_both_types():
    assert all({"float32", "bfloat16"} == gpu.tflops.keys() for gpu in GPUS.values())
    with pytest.raises(ValueError, match="did you mean 'h100'"):
        find_gpu("h10")
