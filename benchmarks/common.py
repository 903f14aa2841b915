"""What the benchmarks share: the sentences, PEFT's twin of a model, and how figures are printed."""

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from torch.profiler import ProfilerActivity, profile

from allora_lab import load_model
from allora_lab.experiments.benchmarks import write_measured
from allora_lab.models.load import LoadedModel

R = 8


def parse(description: str, rounds: int) -> argparse.Namespace:
    """Return the command line's --rounds, --tiny and --json."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help="how often each is timed")
    parser.add_argument("--tiny", action="store_true", help="little work, to see that it runs")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


def peft_twin(targets: Sequence[str], *, use_dora: bool = False) -> LoadedModel:
    """Return MiniLM adapted by PEFT, its head trainable, its own dropout off as in ours."""
    loaded = load_model("minilm")
    config = peft.LoraConfig(
        r=R,
        lora_alpha=R,
        target_modules=list(targets),
        modules_to_save=["classifier"],
        use_dora=use_dora,
    )
    model = peft.get_peft_model(loaded.model, config)
    return LoadedModel(model, loaded.tokenizer, loaded.name, loaded.source, loaded.revision)


def describe_ratio(ratios: Sequence[float]) -> str:
    """Return the median of ratios measured round by round, and their range."""
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the most memory a call has allocated at once, by torch's account, above what stood."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    now = peak = 0
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def write_figures(
    path: Path | None, figures: dict[str, Any], device: torch.device | None = None
) -> None:
    """Write the figures with where they were measured, if a file is named."""
    if path is not None:
        write_measured(path, figures, device)
