"""One step, forward and backward, on 32 x 64 tokens with all linear layers of MiniLM adapted.

Times: the contenders take turns in one process, in a random order every round; ratios are to our
LoRA in the same round.  Memory: each contender in a process of its own, by torch's own account of every allocation
in a step, which repeats exactly where the process's resident size does not.
"""

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from common import R, describe_ratio, parse, peak_bytes, peft_twin, write_figures
from torch import nn

from allora_lab import inject_adapters, load_model

TARGETS = ("query", "key", "value", "dense")  # PEFT's names; the pooler's dense is one of them
BATCH, TOKENS = 32, 64


def ours(method: str) -> Callable[[], nn.Module]:
    """Return what builds MiniLM under one of our methods."""
    return lambda: inject_adapters(load_model("minilm").model, method, r=R, target_modules=TARGETS)


CONTENDERS: dict[str, Callable[[], nn.Module]] = {
    "lora": ours("lora"),
    "allora": ours("allora"),
    "allora-od": ours("allora-od"),
    "dora": ours("dora"),
    "PEFT LoRA": lambda: peft_twin(TARGETS).model,
    "PEFT DoRA": lambda: peft_twin(TARGETS, use_dora=True).model,
}


def batch() -> dict[str, torch.Tensor]:
    """Return random token ids (32, 64), no padding, and labels."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 20_000, (BATCH, TOKENS), generator=generator)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.zeros(BATCH, dtype=torch.long),
    }


def step(model: nn.Module) -> None:
    """Do one forward and backward pass and drop the gradients."""
    model(**batch()).loss.backward()
    model.zero_grad(set_to_none=True)


def peak_of(name: str) -> int:
    """Return the most memory allocated at once during a step, above what stood before it."""
    model = CONTENDERS[name]().train()
    step(model)
    return peak_bytes(lambda: step(model))


def measured_peak(name: str) -> int:
    """Return `peak_of` from a process of its own."""
    command = [sys.executable, __file__, "--peak", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print milliseconds, ratios and peak memory of every contender."""
    options = parse(__doc__.splitlines()[0], rounds=15)
    models = {name: build().train() for name, build in CONTENDERS.items()}
    for model in models.values():
        step(model)  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in models}
    order = random.Random(0)
    for _ in range(options.rounds):
        for name in order.sample(list(models), len(models)):  # none always runs after another
            model = models[name]
            start = time.perf_counter()
            step(model)
            seconds[name].append(time.perf_counter() - start)
    peaks = {name: measured_peak(name) for name in models}
    print(f"{'':12}{'ms':>8}  {'ratio to our LoRA':32}{'peak MiB':>9}  of PEFT LoRA's")
    for name, values in seconds.items():
        ratios = [b / a for a, b in zip(seconds["lora"], values, strict=True)]
        share = peaks[name] / peaks["PEFT LoRA"]
        print(
            f"{name:12}{1000 * statistics.median(values):8.0f}  {describe_ratio(ratios):32}"
            f"{peaks[name] / 2**20:9.1f}  {share:.3f}"
        )
    write_figures(options.json, {"seconds": seconds, "peak_bytes": peaks})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        print(peak_of(sys.argv[2]))
    else:
        main()
