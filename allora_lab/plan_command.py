"""What the command `plan` does: say what a fine-tune would take, before a machine is rented."""

import argparse
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from allora_lab.checks import require_positive
from allora_lab.flags import targets_in
from allora_lab.planning.advice import smallest_change
from allora_lab.planning.memory import (
    ALLOCATOR_SHARE,
    CUDA_CONTEXT_GIB,
    GIB,
    StepMemory,
    step_memory,
    usable_bytes,
)
from allora_lab.planning.shapes import build_on_meta, count_parameters, read_shape
from allora_lab.planning.throughput import find_gpu, operations, scoring_round
from allora_lab.settings import require_in_range

BUILD = ("method", "task", "dtype", "r", "target_modules")
SIZES = ("batch_size", "max_length", "optimizer")


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(options, name) for name in (*BUILD, *SIZES)}
    for name in ("r", "dtype", "batch_size", "max_length", "optimizer"):
        require_in_range(name, given[name])
    return {**given, "target_modules": targets_in(options.target_modules or ["all-linear"])}


def _gibibytes(size: float) -> str:
    return f"{size / GIB:10.3f} GiB"


def _print_memory(plain: StepMemory, checkpointed: StepMemory | None) -> None:
    print("\nmemory of a training step")
    for name in ("weights", "adapters", "gradients", "optimizer", "activations"):
        words = {"weights": "pretrained weights", "adapters": "adapters and head"}
        words |= {"optimizer": "optimizer state", "activations": "activations, at the peak"}
        print(f"  {words.get(name, name):34}{_gibibytes(getattr(plain, name))}")
    print(f"  {'in all':34}{_gibibytes(plain.total)}")
    if checkpointed is None:
        print("  this model has no gradient checkpointing")
        return
    print(f"  {'activations with checkpointing':34}{_gibibytes(checkpointed.activations)}")
    print(f"  {'in all with checkpointing':34}{_gibibytes(checkpointed.total)}")


def _print_fit(
    config: PreTrainedConfig, settings: dict[str, Any], total: int, memory_gib: float
) -> None:
    usable = usable_bytes(memory_gib)
    print(
        f"\nof {memory_gib:g} GiB, {usable / GIB:.1f} are counted on: {CUDA_CONTEXT_GIB:g} is left "
        f"to CUDA and {100 * ALLOCATOR_SHARE:g} % of the rest to the allocator"
    )
    if total <= usable:
        print(f"  it fits, with {(usable - total) / GIB:.2f} GiB to spare")
    else:
        print(f"  it does not fit: {smallest_change(config, settings, memory_gib=memory_gib)}")


def _amount(operations: float) -> str:
    return (
        f"{operations / 1e12:.1f} TFLOP" if operations < 1e15 else f"{operations / 1e18:.2f} EFLOP"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 600 else f"{seconds / 3600:.1f} h"


def _print_speed(model: PreTrainedModel, options: argparse.Namespace, tflops: float | None) -> None:
    cost = operations(model, options.max_length)
    step = cost.step(options.gradient_checkpointing)
    print("\noperations a token: forward 2 P + 2 a + 4 T d L, backward 2 P + 4 a + 8 T d L")
    print("  (P frozen matrices, a trained ones, T tokens, d width, L layers; half of T if causal)")
    print(f"  forward {cost.forward / 1e9:.3f} GFLOP, training step {step / 1e9:.3f} GFLOP")
    scoring = scoring_round(model, options.max_length)
    print(
        f"a scoring round of the rank allocator: {scoring.ranks} ranks, {scoring.forwards} forward "
        f"passes of 32 sentences,\n  {_amount(scoring.operations)}; the replay computes about "
        "half of it, or less"
    )
    if tflops is None:
        print("no bound on the speed without a GPU: add --gpu NAME or --peak TFLOPS")
        return
    peak = tflops * 1e12
    print(
        f"at a peak of {tflops:g} TFLOPS, and no real step reaches it: at most {peak / step:,.0f} "
        f"tokens a second;\n  a scoring round takes at least {_duration(scoring.operations / peak)} by "
        "the definition"
    )


def plan(options: argparse.Namespace) -> None:
    """Print parameters, memory by part, whether it fits, and a bound on the speed."""
    settings = _settings(options)
    gpu = find_gpu(options.gpu) if options.gpu else None
    for name in ("memory", "peak"):
        if getattr(options, name) is not None:
            require_positive(name, getattr(options, name))
    config, source = read_shape(options.model)
    plain = step_memory(config, **settings, is_checkpointed=False)
    model = build_on_meta(config, **{name: settings[name] for name in BUILD})
    checkpointed = None
    if model.supports_gradient_checkpointing:
        checkpointed = step_memory(config, **settings, is_checkpointed=True)
    elif options.gradient_checkpointing:
        raise ValueError(
            f"{options.model} has no gradient checkpointing: leave --gradient-checkpointing out"
        )
    every, trained = count_parameters(model)
    print(f"{options.model}: {source}")
    print(
        f"{options.method}, r = {options.r}, {options.dtype}, {options.batch_size} x "
        f"{options.max_length} tokens, {options.task}"
    )
    print(f"trained: {trained:,} of {every:,} parameters, {100 * trained / every:.3f} %")
    _print_memory(plain, checkpointed)
    memory = gpu.memory_gib if options.memory is None and gpu else options.memory
    if memory is not None:
        chosen = checkpointed if options.gradient_checkpointing and checkpointed else plain
        asked = {**settings, "is_checkpointed": options.gradient_checkpointing}
        _print_fit(config, asked, chosen.total, memory)
    peak = gpu.tflops[options.dtype] if options.peak is None and gpu else options.peak
    _print_speed(model, options, peak)
