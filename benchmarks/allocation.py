"""Whole fine-tunes of MiniLM whose ranks move, beside LoRA's: processor time and memory (Table 4).

Settings are those of `sweeps/allocation.toml` for a quarter of its steps, with one of its four rounds.
Each run is a process of its own, and in a round all take turns, in a random order.  Time is the
processor's, of all threads, from the first step to the last, scores and rounds included.  Memory is
the peak of the process's resident size less what stood there before training; the C library is told
to hand freed memory back, so that what a method frees counts.

    python benchmarks/allocation.py --rounds 6 --json results/cost/allocation.json

makes the record behind `allora-lab figure allocation-cost`.
"""

import argparse
import dataclasses
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from common import describe_ratio, write_figures

from allora_lab.config import RunConfig
from allora_lab.experiments import environment
from allora_lab.experiments.runner import run
from allora_lab.experiments.sweep import read_sweep

SWEEP = Path(__file__).parent.parent / "sweeps" / "allocation.toml"
STEPS = 64  # a quarter of the sweep's, with a quarter of its rounds
ROUNDS = {"rounds": 1, "first_round": 32}
PLAIN = "ALoRA, plain passes"
HAND_BACK = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "0",
    "MALLOC_ARENA_MAX": "1",
}


def configs(dataset: str) -> dict[str, RunConfig]:
    """Return one run of each method: those of the sweep's first seed at its first budget, shorter."""
    found: dict[str, RunConfig] = {}
    for config in read_sweep(SWEEP).configs:
        if config.seed == 0 and config.dataset == "rotten_tomatoes" and not config.ranks_moved:
            own = (
                {"first_round": 8, "round_every": 2} if config.first_round else {}
            )  # a quarter too
            rounds = ROUNDS if config.rounds else own
            shorter = dataclasses.replace(config, dataset=dataset, steps=STEPS, **rounds)
            found.setdefault(config.method, shorter)
    return {**found, PLAIN: dataclasses.replace(found["alora-ablation"], copies=0)}


def resident_bytes() -> int:
    """Return how much memory the process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def one_run(config: RunConfig) -> dict[str, float]:
    """Train, and return the processor seconds and the bytes gained."""
    start = {}

    def on_built(_model: torch.nn.Module) -> None:
        start.update(seconds=time.process_time(), bytes=resident_bytes())

    def on_step(progress: object) -> None:
        start["end"] = time.process_time()
        start["peak"] = environment.peak_memory_bytes(torch.device("cpu"))

    run(config, device="cpu", on_built=on_built, on_step=on_step)
    return {
        "seconds": start["end"] - start["seconds"],
        "bytes": start["peak"] - start["bytes"],
    }


def in_a_process(method: str, dataset: str) -> dict[str, float]:
    """Return `one_run` of a process of its own."""
    command = [sys.executable, __file__, "--one", method, "--dataset", dataset]
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            command,
            check=False,
            env={**os.environ, **HAND_BACK},
            capture_output=True,
            text=True,
            cwd=folder,
        )
    if done.returncode:
        raise SystemExit(f"{method} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(dataset: str, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Return each method's seconds and bytes, round by round."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in configs(dataset)}
    order = random.Random(0)
    for number in range(rounds):
        for name in order.sample(list(found), len(found)):
            found[name].append(in_a_process(name, dataset))
            last = found[name][-1]
            size = f"{last['seconds']:.0f} s, {last['bytes'] / 2**20:.0f} MiB"
            print(f"round {number + 1} of {rounds}: {name} {size}", flush=True)
    return found


def parse() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=2, help="how often each is run (the record: 6)"
    )
    parser.add_argument("--dataset", default="rotten_tomatoes", help="or rotten_tomatoes_rated")
    parser.add_argument("--one", help="run this method alone, in this process")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


def main() -> None:
    """Print each method's seconds and memory beside LoRA's."""
    options = parse()
    runs = configs(options.dataset)
    if options.one:
        print(json.dumps(one_run(runs[options.one])))
        return
    found = measured(options.dataset, options.rounds)
    seconds = {name: [one["seconds"] for one in rows] for name, rows in found.items()}
    peaks = {name: statistics.median(one["bytes"] for one in rows) for name, rows in found.items()}
    print(f"\n{'':18}{'s':>6}  {'ratio to LoRA':24}{'MiB':>6}  of LoRA's")
    for name, values in seconds.items():
        ratios = [b / a for a, b in zip(seconds["lora"], values, strict=True)]
        print(
            f"{name:18}{statistics.median(values):6.0f}  {describe_ratio(ratios):24}"
            f"{peaks[name] / 2**20:6.0f}  {peaks[name] / peaks['lora']:.3f}"
        )
    plain = runs["lora"]
    setting = {"r": plain.r, "batch": plain.batch_size, "tokens": plain.max_length}
    figures = {
        "seconds": seconds,
        "peak_bytes": peaks,
        "target_modules": list(plain.target_modules),
    }
    write_figures(options.json, {**setting, **figures})


if __name__ == "__main__":
    main()
