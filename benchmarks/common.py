"""What the benchmarks share: the sentences, PEFT's twin of a model, and how figures are printed."""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import peft
import torch
from torch.profiler import ProfilerActivity, profile

from allora_lab import load_model
from allora_lab.experiments import environment
from allora_lab.files import written_whole
from allora_lab.models.load import LoadedModel

R = 8


def parse(description: str, rounds: int) -> argparse.Namespace:
    """Return the command line's --rounds and --json."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help="how often each is timed")
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
    """Return the median of ratios measured round by round, and where their middle half lies."""
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


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
    """Write the figures with where they were measured, whole or not at all, if a file is named."""
    if path is None:
        return
    commit, dirty = environment.code_version("benchmarks")
    where = {
        "device": environment.device_name(device or torch.device("cpu")),
        "packages": {**environment.package_versions(), "peft": peft.__version__},
        "code_commit": commit,
        "code_dirty": dirty,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with written_whole(path) as partial:
        partial.write_text(json.dumps({**figures, **where}, indent=1) + "\n")
