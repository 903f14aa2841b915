"""Records of the benchmarks, `results/benchmarks/NAME.json`, and the sentences that quote them.

`make bench` and `make binder` write the records; `allora-lab pages` puts the sentences into the documents.
"""

import html
import json
import math
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from allora_lab.checks import require_kind, require_type
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
REMEDY = "delete it and measure again"
KINDS = {"measured": dict, "setting": dict, "packages": dict} | dict.fromkeys(
    ("compared", "unit", "device", "finished_at"), str
)  # of the fields of a record
WORDS = {dict: "an object", str: "text"}


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
        """Return the median of the ratios `slower` / `faster` of each repetition, with their range.

        Raises ValueError where one of them is missing, or has other repetitions.
        """
        above, below = (self.measured.get(name, []) for name in (slower, faster))
        if not above or len(above) != len(below):
            raise ValueError(
                f"the record of {self.compared or 'a benchmark'} lacks rounds of {slower} or {faster}: {REMEDY}"
            )
        ratios = [a / b for a, b in zip(above, below, strict=True)]
        rounds = f"{len(ratios)} rounds" if len(ratios) > 1 else "one round"
        return f"{median(ratios):.2f} ({rounds}: {min(ratios):.2f} to {max(ratios):.2f})"

    def number(self, key: str) -> float:
        """Return a number of `setting`; ValueError where it is missing."""
        value = self.setting.get(key)
        require_type(f"{key} in the record of {self.compared}", value, float)
        return value

    @property
    def where(self) -> str:
        """Return machine, torch, commit and day."""
        commit = (self.code_commit or "unknown")[:7]
        day = self.finished_at[:10]
        words = f"{self.device}; torch {self.packages.get('torch')}; commit {commit}, {day}"
        return html.escape(" ".join(words.split()))


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
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}): {REMEDY}") from None
    if not isinstance(values, dict) or values.keys() != {f.name for f in fields(BenchmarkRecord)}:
        raise ValueError(f"{path} is not a record of this version: {REMEDY}")
    for key, kind in KINDS.items():
        require_kind(f"{key} in {path}", values[key], kind, f"{WORDS[kind]}; {REMEDY}")
    measured = values["measured"]
    if not measured or not all(map(_is_measured, measured.values())):
        raise ValueError(f"measured in {path} must list positive numbers by contender: {REMEDY}")
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
    return (
        f"One epoch of {record.number('sentences'):,} sentences, sorted by length over the whole epoch "
        f"(`length_pool`), is faster than PEFT with Hugging Face's `Trainer` by a factor of "
        f"{record.ratio('PEFT + Trainer', 'allora_lab')}, and than `Trainer` with batches by length "
        f"by a factor of {record.ratio('PEFT + Trainer, by length', 'allora_lab')}. With padding, "
        f"our epoch has {record.number('tokens'):,} tokens and an epoch of random batches "
        f"{record.number('tokens_at_random'):,}. At the machine's peak the matrix products alone would take "
        f"{record.number('floor_seconds') / median(record.measured['allora_lab']):.0%} of our time. "
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
        f"Scoring {record.number('ranks')} ranks of MiniLM takes less processor time by the replay than by "
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
    server = peaks.pop(SERVER, None)
    if server is None or not peaks:
        raise ValueError(f"the record of Binder lacks {SERVER} or every notebook: {REMEDY}")
    first = max(peaks, key=peaks.__getitem__)
    others = sorted(peak for name, peak in peaks.items() if name != first)
    rest = f", the others {others[0]:,.0f} to {others[-1]:,.0f}" if others else ""
    return (
        f"Under Binder's limits (`make binder`: {html.escape(str(record.setting.get('limits')))}) {len(peaks)} notebooks ran with their live "
        f"runs. Notebook {first[:2]} peaked at {peaks[first]:,.0f} MiB{rest}; {SERVER} itself takes "
        f"{server:,.0f}, and Binder allows {record.number('allowed'):,}."
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
        f"{memory_ratio(record, 'PEFT DoRA'):.1f} times (`allora-lab figure cost`; {html.escape(record.device)})."
    )
