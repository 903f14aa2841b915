"""Step time and memory on a GPU: LoRA, ALLoRA, ALLoRA on the update, DoRA, and PEFT's LoRA and DoRA.

At 22 M (MiniLM), 135 M and 0.5 B parameters, in float32 and bfloat16, all linear layers adapted.  MiniLM
has its weights; the two larger models are shapes with random weights, which takes the same time.  In
every round each contender takes one step, in a random order; ratios are to our LoRA in the same round,
with a 95 % interval of the median.  The GPU's peak is that of a large matrix product in the same run.

    python benchmarks/gpu.py --json gpu.json                   under 8 minutes; needs CUDA
    python benchmarks/gpu.py --device cpu --tiny               two layers, to see that it runs
"""

import argparse
import copy
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
from common import R, peak_bytes, write_figures
from torch import nn
from torch.optim import AdamW, Optimizer
from transformers import PreTrainedModel

from allora_lab import inject_adapters, load_model
from allora_lab.experiments import environment
from allora_lab.experiments.statistics import median_interval
from allora_lab.methods import METHODS, get_method
from allora_lab.models.load import DTYPES, TASKS
from allora_lab.planning.rehearsal import rehearse
from allora_lab.planning.shapes import build_on_meta, read_shape
from allora_lab.planning.throughput import operations

MODELS = ("minilm", "smollm-135m", "qwen2-0.5b")
OURS = ("lora", "allora", "allora-update", "dora")
PEFTS = {"PEFT LoRA": False, "PEFT DoRA": True}
TARGETS = {"minilm": ("query", "key", "value", "dense")}  # PEFT's all-linear takes no pooler
DECODER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LEAST_ROUNDS = 6  # what a 95 % interval of a median needs
SECONDS = 400  # for all rounds together
Step = Callable[[], None]


def shape_of(name: str, is_tiny: bool) -> Any:
    """Return a model's configuration, of two layers and few words when tiny."""
    config = read_shape(name)[0]
    if is_tiny:
        config.num_hidden_layers = 2
        config.vocab_size = 500
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:2]
    config.pad_token_id = 0
    config.use_cache = False
    return config


def pretrained(name: str, dtype: str, device: torch.device, is_tiny: bool) -> PreTrainedModel:
    """Return MiniLM with its weights, or a model of a shape with random ones."""
    if name == "minilm" and not is_tiny:
        return load_model("minilm", dtype=dtype).model.to(device)
    with torch.device(device):
        torch.manual_seed(0)
        build = TASKS["sequence-classification"].from_config
        return build(shape_of(name, is_tiny), dtype=DTYPES[dtype])


def batch_of(batch: int, tokens: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Return random ids (batch, tokens) below 500, without padding, and labels."""
    ids = torch.randint(1, 500, (batch, tokens), generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(batch, dtype=torch.long)
    return {
        "input_ids": ids.to(device),
        "attention_mask": torch.ones_like(ids).to(device),
        "labels": labels.to(device),
    }


def adapted(base: PreTrainedModel, contender: str, targets: tuple[str, ...]) -> nn.Module:
    """Return a copy of a model under one of our methods or PEFT's, in training mode."""
    model = copy.deepcopy(base)
    if contender in OURS:
        inject_adapters(model, contender, r=R, target_modules=targets)
        return model.train()
    head = "classifier" if "classifier" in dict(model.named_children()) else "score"
    config = peft.LoraConfig(
        r=R,
        lora_alpha=R,
        target_modules=list(targets),
        modules_to_save=[head],
        use_dora=PEFTS[contender],
    )
    return peft.get_peft_model(model, config).train()


def stepper(model: nn.Module, contender: str, batch: dict[str, torch.Tensor]) -> Step:
    """Return what does one step: forward, backward, AdamW's update."""
    optimizer: Optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    wrap = get_method(contender).wrap_optimizer if contender in METHODS else None
    if wrap:
        optimizer = wrap(optimizer, model, 4.0)

    def step() -> None:
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def seconds_of(run: Step, device: torch.device) -> float:
    """Return the seconds until a call's work is done, on a GPU too."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def step_peak(run: Step, device: torch.device) -> int:
    """Return the most bytes allocated at once in a call, above what stood before it."""
    if device.type != "cuda":
        return peak_bytes(run)
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def measured_tflops(dtype: str, device: torch.device, size: int) -> float:
    """Return the best of 10 products of two size × size matrices, in TFLOPS."""
    A, B = (torch.randn(size, size, device=device, dtype=DTYPES[dtype]) for _ in range(2))
    seconds_of(lambda: A @ B, device)
    return 2 * size**3 / min(seconds_of(lambda: A @ B, device) for _ in range(10)) / 1e12


def cell(
    name: str, dtype: str, device: torch.device, options: argparse.Namespace, deadline: float
) -> dict[str, Any]:
    """Return the measurements of one model in one dtype; rounds end early at the deadline."""
    batch, tokens = (2, 16) if options.tiny else (16, 256)
    targets = TARGETS.get(name, DECODER)
    base, data = pretrained(name, dtype, device, options.tiny), batch_of(batch, tokens, device)
    steps = {c: stepper(adapted(base, c, targets), c, data) for c in (*OURS, *PEFTS)}
    peaks = {}
    for contender, step in steps.items():
        step(), step()  # the optimizer's state is then there, and kernels are chosen
        peaks[contender] = step_peak(step, device)
    seconds: dict[str, list[float]] = {contender: [] for contender in steps}
    order = random.Random(0)
    for done in range(options.rounds):
        if done >= LEAST_ROUNDS and time.perf_counter() > deadline:
            break
        for contender in order.sample(list(steps), len(steps)):  # none always after another
            seconds[contender].append(seconds_of(steps[contender], device))
    build = {"dtype": dtype, "r": R, "target_modules": targets}
    meta = {c: build_on_meta(shape_of(name, options.tiny), c, **build) for c in OURS}
    planned = {c: rehearse(m, batch_size=batch, tokens=tokens).peak for c, m in meta.items()}
    return {
        "model": name,
        "weights": "pretrained" if name == "minilm" and not options.tiny else "random",
        "dtype": dtype,
        "batch": batch,
        "tokens": tokens,
        "seconds": seconds,
        "peak_bytes": peaks,
        "planned_peak_bytes": planned,
        "step_flop": operations(meta["lora"], tokens).step() * batch * tokens,
    }


def summary(row: dict[str, Any], tflops: float) -> dict[str, dict[str, Any]]:
    """Return by contender the median seconds, the ratio to LoRA's with its interval, and the rest."""
    lora = row["seconds"]["lora"]
    found = {}
    for name, seconds in row["seconds"].items():
        middle = statistics.median(seconds)
        found[name] = {
            "median_seconds": middle,
            "ratio_to_lora": median_interval([s / f for s, f in zip(seconds, lora, strict=True)]),
            "tokens_per_second": row["batch"] * row["tokens"] / middle,
            "peak_bytes": row["peak_bytes"][name],
            "share_of_peak": row["step_flop"] / middle / (tflops * 1e12),
        }
    return found


def print_cell(row: dict[str, Any], made: dict[str, dict[str, Any]]) -> None:
    """Print one model in one dtype."""
    print(
        f"\n{row['model']} ({row['weights']} weights), {row['dtype']}, {row['batch']} x "
        f"{row['tokens']} tokens, {len(row['seconds']['lora'])} rounds"
    )
    print(
        f"{'':14}{'ms':>9}  {'ratio to our LoRA':24}{'tokens/s':>10}{'MiB':>9}{'planned':>9}  of peak"
    )
    for name, line in made.items():
        middle, low, high = line["ratio_to_lora"]
        planned = row["planned_peak_bytes"].get(name)
        print(
            f"{name:14}{1000 * line['median_seconds']:9.2f}  "
            f"{f'{middle:.3f} [{low:.3f}, {high:.3f}]':24}{line['tokens_per_second']:10,.0f}"
            f"{line['peak_bytes'] / 2**20:9.1f}"
            f"{f'{planned / 2**20:.1f}' if planned else '':>9}  {100 * line['share_of_peak']:.1f} %"
        )


def main() -> int:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="at most so many, at least 6")
    parser.add_argument("--json", type=Path, help="write the record here")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu with --tiny")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--tiny", action="store_true", help="two layers and few tokens")
    options = parser.parse_args()
    try:
        device = environment.resolve_device(options.device)
    except ValueError as error:
        print(f"gpu.py: {error}; --device cpu --tiny runs a small version", file=sys.stderr)
        return 2
    if (device.type != "cuda" and not options.tiny) or options.rounds < LEAST_ROUNDS:
        print("gpu.py: without CUDA add --tiny; --rounds is at least 6", file=sys.stderr)
        return 2
    size = 256 if options.tiny else 8192
    tflops = {dtype: measured_tflops(dtype, device, size) for dtype in DTYPES}
    print(f"{environment.device_name(device)}; of a {size} x {size} product:", end=" ")
    print(", ".join(f"{value:.3g} TFLOPS in {dtype}" for dtype, value in tflops.items()))
    rows, pairs = [], [(name, dtype) for name in options.models for dtype in DTYPES]
    start = time.perf_counter()
    for i, (name, dtype) in enumerate(pairs, start=1):
        row = cell(name, dtype, device, options, start + SECONDS * i / len(pairs))
        row["summary"] = summary(row, tflops[dtype])
        print_cell(row, row["summary"])
        rows.append(row)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    figures = {"r": R, "matmul_tflops": tflops, "cells": rows}
    write_figures(options.json, figures, device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
