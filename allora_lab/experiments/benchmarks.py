"""Records of the benchmarks, `results/benchmarks/NAME.json`, and the sentences that quote them.

`make bench` and `make binder` write the records; `allora-lab pages` puts the sentences into the documents.
"""

import json
import math
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from allora_lab.checks import require_kind
from allora_lab.experiments import environment
from allora_lab.experiments.allocation_cost import COMMAND, PAPER, allocation_cost_path
from allora_lab.experiments.cost import (
    CostRecord,
    cost_path,
    memory_ratio,
    read_cost_record,
    time_ratio,
)
from allora_lab.files import results_folder, written_whole

LOOP_INPUTS = "MNIST's 784 inputs"  # the first of the two sizes of benchmarks/gradient_variance.py
SERVER = "JupyterLab"


@dataclass(frozen=True, kw_only=True)
class BenchmarkRecord:
    """What one benchmark measured, and where.

    `compared` says what was compared.  `measured` has every repetition, in `unit`, by contender; in
    repetition i all contenders took one turn, so ratios are formed within it.  `setting` has what
    else a reader needs.
    """

    compared: str
    unit: str
    measured: dict[str, list[float]]
    setting: dict[str, Any]
    device: str
    packages: dict[str, str]
    code_commit: str | None
    code_dirty: bool | None
    finished_at: str

    def ratio(self, slower: str, faster: str) -> str:
        """Return the median of the ratios `slower` / `faster` of each repetition, with their range."""
        pairs = zip(self.measured[slower], self.measured[faster], strict=True)
        ratios = [a / b for a, b in pairs]
        rounds = f"{len(ratios)} rounds" if len(ratios) > 1 else "one round"
        return f"{median(ratios):.2f} ({rounds}: {min(ratios):.2f} to {max(ratios):.2f})"

    @property
    def where(self) -> str:
        """Return machine, torch, commit and day."""
        commit = (self.code_commit or "unknown")[:7]
        day = self.finished_at[:10]
        return f"{self.device}; torch {self.packages.get('torch')}; commit {commit}, {day}"


def write_measured(path: Path, figures: dict[str, Any], device: torch.device | None = None) -> None:
    """Write what a benchmark measured with where it was measured, whole or not at all."""
    commit, dirty = environment.code_version("benchmarks", "binder")
    where = {
        "device": environment.device_name(device or torch.device("cpu")),
        "packages": {**environment.package_versions(), "peft": version("peft")},
        "code_commit": commit,
        "code_dirty": dirty,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with written_whole(path) as partial:
        partial.write_text(json.dumps({**figures, **where}, indent=1, allow_nan=False) + "\n")


def read_benchmark(name: str) -> BenchmarkRecord | None:
    """Return the record of a benchmark, or None while there is none.

    Raises
    ------
    ValueError
        If the file is not JSON, lacks or adds a field, or a measurement is not a positive number.
    """
    path = results_folder() / "benchmarks" / f"{name}.json"
    if not path.exists():
        return None
    remedy = "delete it and measure again"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): {remedy}") from None
    require_kind(str(path), values, dict, f"a record of a benchmark; {remedy}")
    if values.keys() != {field.name for field in fields(BenchmarkRecord)}:
        raise ValueError(f"{path} is not a record of this version: {remedy}")
    measured = values["measured"]
    if not (isinstance(measured, dict) and measured and all(map(_is_measured, measured.values()))):
        raise ValueError(f"measured in {path} must list positive numbers by contender: {remedy}")
    return BenchmarkRecord(**values)


def _is_measured(values: object) -> bool:
    kinds = (int, float)
    return (
        isinstance(values, list)
        and bool(values)
        and all(type(v) in kinds and math.isfinite(v) and v > 0 for v in values)
    )


def _missing(what: str, command: str = "make bench") -> str:
    return f"{what} is not recorded yet: `{command}` measures it."


def throughput_sentences() -> str:
    """Return how fast the loop is beside PEFT with Hugging Face's Trainer."""
    record = read_benchmark("throughput")
    if record is None:
        return _missing("The speed of the training loop beside PEFT's")
    setting = record.setting
    return (
        f"One epoch of {setting['sentences']:,} sentences, sorted by length over the whole epoch "
        f"(`length_pool`), is faster than PEFT with Hugging Face's `Trainer` by a factor of "
        f"{record.ratio('PEFT + Trainer', 'allora_lab')}, and than `Trainer` with batches by length "
        f"by a factor of {record.ratio('PEFT + Trainer, by length', 'allora_lab')}. With padding, "
        f"our epoch has {setting['tokens']:,} tokens and an epoch of random batches "
        f"{setting['tokens_at_random']:,}. At the machine's peak the matrix products alone would take "
        f"{setting['floor_seconds'] / median(record.measured['allora_lab']):.0%} of our time. "
        f"({record.where}.)"
    )


def mask_sentences() -> str:
    """Return how fast the spread of gradients over dropout masks is measured, beside autograd."""
    record = read_benchmark("gradient-variance")
    if record is None:
        return _missing("The speed of measuring gradients over dropout masks")
    return (
        "Measuring the spread of gradients over dropout masks is faster than a loop of autograd calls by a "
        f"factor of {record.ratio(f'loop, {LOOP_INPUTS}', f'ours, {LOOP_INPUTS}')} on {LOOP_INPUTS}. "
        f"({record.where}.)"
    )


def redraw_sentences() -> str:
    """Return how long the panels take to redraw."""
    record = read_benchmark("panels")
    if record is None:
        return _missing("The time that the panels take to redraw")
    medians = [1000 * median(seconds) for seconds in record.measured.values()]
    return (
        f"The {len(medians)} panels redraw in {min(medians):.0f} to {max(medians):.0f} ms: the median of "
        f"each over every position of every control, in the kernel. ({record.where}.)"
    )


def score_sentences() -> str:
    """Return how much faster ranks are scored by the replay than by 2R + 1 passes."""
    record = read_benchmark("scores")
    if record is None:
        return _missing("How much faster the replay is than plain passes")
    return (
        f"Scoring {record.setting['ranks']} ranks of MiniLM takes less processor time by the replay than by "
        f"plain passes, by a factor of {record.ratio('plain, padded', 'replayed, padded')} on padded "
        f"sentences and {record.ratio('plain, one length', 'replayed, one length')} on sentences of "
        f"one length. ({record.where}.)"
    )


def binder_sentences() -> str:
    """Return how much memory the notebooks take under Binder's limits."""
    record = read_benchmark("binder")
    if record is None:
        return _missing("The memory that the notebooks take on Binder", "make binder")
    peaks = {name: max(values) for name, values in record.measured.items()}
    server = peaks.pop(SERVER)
    first = max(peaks, key=peaks.__getitem__)
    others = sorted(peak for name, peak in peaks.items() if name != first)
    rest = f", the others {others[0]:,.0f} to {others[-1]:,.0f}" if others else ""
    return (
        f"Under Binder's limits (`make binder`: {record.setting['limits']}) every notebook ran with its live "
        f"runs. Notebook {first[:2]} peaked at {peaks[first]:,.0f} MiB{rest}; {SERVER} itself takes "
        f"{server:,.0f}, and Binder allows {record.setting['allowed']:,}."
    )


def allocation_cost() -> str:
    """Return what a fine-tune costs whose ranks move."""
    record = read_cost_record(allocation_cost_path(), COMMAND)
    plain, (hours, lora_hours) = "ALoRA, plain passes", (PAPER["ALoRA"][1], PAPER["LoRA"][1])
    mebibytes = {name: f"{peak / 2**20:.0f} MiB" for name, peak in record.peak_bytes.items()}
    near = max(time_ratio(record, name)[0] for name in ("sora", "adalora", "alora-sensitivity"))
    return (
        "A fine-tune of MiniLM with one round in 64 steps takes "
        f"{_times(record, 'alora-ablation')} times LoRA's processor time ({len(record.seconds['lora'])} rounds) and "
        f"{mebibytes['alora-ablation']} where LoRA takes {mebibytes['lora']}; by plain passes "
        f"{_times(record, plain)} times and {mebibytes[plain]}. SoRA, AdaLoRA and sensitivity take at most {near:.2f} "
        f"times LoRA's time, the learned gates {_times(record, 'alora-dnas')} times (`allora-lab figure "
        f"allocation-cost`). In the paper's Table 4 it is {hours / lora_hours:.2f} times."
    )


def _times(record: CostRecord, name: str) -> str:
    median, low, high = time_ratio(record, name)
    return f"{median:.2f} [{low:.2f}, {high:.2f}]"


def step_cost() -> str:
    """Return what one step costs beside one of LoRA."""
    record = read_cost_record(cost_path())
    peft = record.peak_bytes["PEFT LoRA"]
    extra = record.peak_bytes["allora"] - peft
    return (
        f"A whole step of ALLoRA takes {_times(record, 'allora')} times the processor time of a step of LoRA (all linear "
        f"layers, AdamW, {len(record.seconds['lora'])} rounds), with the coefficient on the update "
        f"{_times(record, 'allora-update')} times. At its peak it takes {memory_ratio(record, 'allora'):.3f} times LoRA's "
        f"memory, and {abs(extra):,.0f} bytes {'more' if extra > 0 else 'less'} than PEFT's LoRA "
        f"({peft / 2**20:.1f} MiB). DoRA takes {_times(record, 'dora')} times the time and "
        f"{memory_ratio(record, 'dora'):.1f} times the memory, PEFT's DoRA {_times(record, 'PEFT DoRA')} and "
        f"{memory_ratio(record, 'PEFT DoRA'):.1f} times (`allora-lab figure cost`; {record.device})."
    )
