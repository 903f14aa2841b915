"""One step on 32 x 64 tokens with all linear layers of MiniLM adapted: forward, backward, AdamW's update.

Times: the contenders take turns in one process, in a random order every round; ratios are to our
LoRA in the same round.  They are processor time, of all threads, which other programs on the machine
disturb less than they do the clock's.  Memory: each contender in a process of its own, by torch's own account of every allocation
in a step, which repeats exactly where the process's resident size does not.

    python benchmarks/step.py --rounds 30 --json results/cost/step.json

makes the record behind `allora-lab figure cost`.
"""

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from common import R, describe_ratio, parse, peak_bytes, peft_twin, write_figures
from torch import nn
from torch.optim import AdamW, Optimizer

from allora_lab import inject_adapters, load_model
from allora_lab.methods import get_method

TARGETS = ("query", "key", "value", "dense")  # PEFT's names; the pooler's dense is one of them
BATCH, TOKENS = 32, 64
LR, ETA_SQUARED = 1e-3, 4.0
Wrap = Callable[[Optimizer, nn.Module, float], Optimizer]


@dataclass(frozen=True)
class Contender:
    """A model that trains and the optimizer of its adapters and head."""

    model: nn.Module
    optimizer: Optimizer

    @classmethod
    def of(cls, model: nn.Module, wrap: Wrap | None = None) -> "Contender":
        """Return a model in training mode under AdamW, which `wrap` may put something around."""
        optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=LR)
        return cls(model.train(), wrap(optimizer, model, ETA_SQUARED) if wrap else optimizer)

    def step(self) -> None:
        """Do one step: forward, backward, update."""
        self.model(**batch()).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def ours(method: str) -> Callable[[], Contender]:
    """Return what builds MiniLM under one of our methods."""

    def build() -> Contender:
        settings = {"r": R, "eta_squared": ETA_SQUARED, "target_modules": TARGETS}
        model = inject_adapters(load_model("minilm").model, method, **settings)
        return Contender.of(model, get_method(method).wrap_optimizer)

    return build


CONTENDERS: dict[str, Callable[[], Contender]] = {
    **{name: ours(name) for name in ("lora", "allora", "allora-update", "allora-od", "dora")},
    "PEFT LoRA": lambda: Contender.of(peft_twin(TARGETS).model),
    "PEFT DoRA": lambda: Contender.of(peft_twin(TARGETS, use_dora=True).model),
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


def peak_of(name: str) -> int:
    """Return the most memory allocated at once during a step, above what stood before it."""
    contender = CONTENDERS[name]()
    contender.step()  # AdamW's state is then there
    return peak_bytes(contender.step)


def measured_peak(name: str) -> int:
    """Return `peak_of` from a process of its own."""
    command = [sys.executable, __file__, "--peak", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured_seconds(rounds: int) -> dict[str, list[float]]:
    """Return the processor seconds of a step of every contender in each round."""
    contenders = {name: build() for name, build in CONTENDERS.items()}
    for contender in contenders.values():
        contender.step()  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(
            list(contenders), len(contenders)
        ):  # none always runs after another
            start = time.process_time()
            contenders[name].step()
            seconds[name].append(time.process_time() - start)
    return seconds


def main() -> None:
    """Print milliseconds, ratios and peak memory of every contender."""
    options = parse(__doc__.splitlines()[0], rounds=15)
    seconds = measured_seconds(options.rounds)
    peaks = {name: measured_peak(name) for name in CONTENDERS}
    print(f"{'':14}{'ms':>8}  {'ratio to our LoRA':32}{'peak MiB':>9}  of our LoRA's")
    for name, values in seconds.items():
        ratios = [b / a for a, b in zip(seconds["lora"], values, strict=True)]
        print(
            f"{name:14}{1000 * statistics.median(values):8.0f}  {describe_ratio(ratios):32}"
            f"{peaks[name] / 2**20:9.1f}  {peaks[name] / peaks['lora']:.4f}"
        )
    setting = {"r": R, "batch": BATCH, "tokens": TOKENS, "target_modules": TARGETS}
    write_figures(options.json, {**setting, "seconds": seconds, "peak_bytes": peaks})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        print(peak_of(sys.argv[2]))
    else:
        main()
