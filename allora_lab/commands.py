"""What each command of the command line does."""

import argparse
import contextlib
import io
import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from allora_lab.checks import require_known
from allora_lab.config import RunConfig
from allora_lab.data.datasets import load_dataset
from allora_lab.data.inventory import describe_data
from allora_lab.experiments.demo import demo_summary, run_demo
from allora_lab.experiments.environment import resolve_device
from allora_lab.experiments.records import write_record
from allora_lab.experiments.runner import run as run_one
from allora_lab.experiments.tasks import model_task
from allora_lab.export import export_peft, require_exportable
from allora_lab.figures import FIGURES
from allora_lab.files import require_writable, written_whole
from allora_lab.methods import METHODS
from allora_lab.planning.advice import smallest_change
from allora_lab.planning.memory import GIB, step_memory, usable_bytes
from allora_lab.planning.shapes import read_shape
from allora_lab.run_files import RunFiles, print_result
from allora_lab.run_options import config_of
from allora_lab.training.checkpoint import Progress
from allora_lab.training.processes import Processes, joined


class StepBar:
    """A progress bar with time left and the loss, called after each step.

    It appears with the first step, so that a run that is refused shows its sentence alone, and a
    resumed run counts from where it stands.
    """

    def __init__(self, title: str, steps: int) -> None:
        self.title, self.steps = title, steps
        self.bar: tqdm | None = None

    def __call__(self, progress: Progress) -> None:
        """Move the bar to the steps done."""
        if self.bar is None:
            self.bar = tqdm(
                total=self.steps,
                initial=progress.done - 1,
                desc=self.title,
                unit="step",
                mininterval=0.5,
                dynamic_ncols=True,
            )
        self.bar.update(progress.done - self.bar.n)
        self.bar.set_postfix_str(f"loss {progress.trace['loss'][-1]:.3f}", refresh=False)
        if progress.done == self.steps:
            self.close()

    def close(self) -> None:
        """End the bar's line, so that what is said next has a line of its own."""
        if self.bar is not None:
            self.bar.close()


def describe(config: RunConfig) -> str:
    """Return a short name of a run for people."""
    return f"{METHODS[config.method].label}, {config.optimizer}, lr {config.lr:g}"


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows that share their keys as columns of aligned text."""
    table = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def write_figure(name: str, content: Mapping[str, Any], out: Path) -> None:
    """Write `NAME.json` and `NAME.png`, each whole or not at all."""
    with written_whole(out / f"{name}.json") as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")
    with written_whole(out / f"{name}.png") as partial:
        FIGURES[name].draw(content).savefig(partial, format="png", dpi=150)
    print(f"wrote {out / name}.json and {out / name}.png\n")


def print_sentences(content: Mapping[str, Any]) -> None:
    """Print what a figure's numbers say, in the sentences computed from them."""
    for number, text in enumerate(content["sentences"], start=1):
        print(textwrap.fill(f"{number}. {text}", 88, subsequent_indent="   "))


def _demo_row(row: Mapping[str, Any]) -> dict[str, str]:
    norms = dict(zip(row["steps"], row["row_norm_mean"], strict=True))
    return {
        "optimizer": row["optimizer"],
        "method": METHODS[row["method"]].label,
        "lr": f"{row['lr']:g}",
        **{f"norm at {step}": f"{norms[step]:.2e}" for step in (8, 48)},
        "at the end": f"{norms[row['steps'][-1]]:.2e} ({row['steps'][-1]})",
        "accuracy": f"{row['eval_accuracy']:.3f}",
        "seconds": f"{row['train_seconds']:.0f}",
    }


def on_demo_run(index: int, total: int, config: RunConfig) -> Callable[[Progress], None]:
    """Return the progress bar of one run of the demo."""
    return StepBar(f"{index + 1}/{total} {describe(config)}", config.steps)


def demo(options: argparse.Namespace) -> None:
    """Train the seven runs, draw them, and say what they showed."""
    resolve_device(options.device)
    require_writable(options.out)
    records = run_demo(device=options.device, on_run=on_demo_run)
    content = demo_summary(records)
    write_figure("escape", content, options.out)
    print_table([_demo_row(row) for row in content["runs"]])
    print("\nnorm: mean row norm of BA after so many steps; accuracy: of one seed on 512 sentences")
    print(
        "(standard error 2 points, so these do not rank the methods; docs/results.md has five seeds).\n"
    )
    print_sentences(content)


def figure(options: argparse.Namespace) -> None:
    """Write a figure's numbers and its picture, from records where they exist."""
    if options.list or not options.name:
        print_table([{"figure": n, "shows": row.description} for n, row in FIGURES.items()])
        return
    require_known("figure", options.name, FIGURES)
    resolve_device(options.device)
    require_writable(options.out)
    content = FIGURES[options.name].compute(options.device, options.fresh, on_demo_run)
    write_figure(options.name, content, options.out)
    print_sentences(content)


def out_of_memory(config: RunConfig) -> str:
    """Return, in one sentence, that a GPU's memory was too small for a run, and what would fit."""
    shape, _ = read_shape(config.model)
    same = ("method", "r", "target_modules", "dtype", "optimizer", "batch_size", "max_length")
    settings = {name: getattr(config, name) for name in same}
    settings |= {"task": model_task(config), "is_checkpointed": config.gradient_checkpointing}
    free, total = torch.cuda.mem_get_info() if torch.cuda.is_available() else (0, 0)
    need = step_memory(shape, **settings).total
    if need <= usable_bytes(total / GIB):
        return (
            f"the GPU's memory ran out, though a step takes about {need / GIB:.2f} GiB of its "
            f"{total / GIB:.1f}: free what else uses it, of which {free / GIB:.1f} GiB is free now, or "
            "halve batch_size"
        )
    change = smallest_change(shape, settings, memory_gib=total / GIB)
    return f"the GPU's {total / GIB:.1f} GiB ran out, for a step takes {need / GIB:.2f}: {change}"


def run(options: argparse.Namespace) -> None:
    """Fine-tune once, on all the processes a launcher started, unless the run is recorded."""
    with contextlib.ExitStack() as stack:
        processes, device = stack.enter_context(joined(options.device))
        if not processes.is_first:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        files = RunFiles(options.out, config_of(options))
        if processes.is_first:
            require_writable(options.out)
            stack.enter_context(files.claimed())
        record = files.earlier(is_fresh=options.fresh) if processes.is_first else None
        if not processes.agree(record is not None):
            _run(options, files, processes, device)
        elif record:
            print(f"{files.record} has this run already; --fresh trains it anew")
            print_result(record)
            if options.export:
                files.export(options.export, trust_remote_code=options.trust_remote_code)
                print(f"wrote the adapter as PEFT reads it to {options.export}")


def _run(options: argparse.Namespace, files: RunFiles, processes: Processes, device: str) -> None:
    """Fine-tune once and write the record; resume when a checkpoint of the same run is there."""
    config, checkpoint = files.config, files.checkpoint
    models = []  # the one that is trained, when it is to be exported

    def keep(model: PreTrainedModel) -> None:
        if options.export and processes.is_first:
            require_exportable(model)
            require_writable(options.export)
            models.append(model)

    bar = StepBar(describe(config), config.steps)
    if checkpoint.exists():
        print(f"resuming from {checkpoint}")
    try:
        with contextlib.closing(bar):
            record = run_one(
                config,
                device=device,
                deterministic=options.deterministic,
                processes=processes,
                trust_remote_code=options.trust_remote_code,
                checkpoint=checkpoint,
                on_built=keep,
                on_note=print,
                on_step=bar if processes.is_first else (lambda _progress: None),
            )
    except torch.OutOfMemoryError:
        raise ValueError(out_of_memory(config)) from None
    except KeyboardInterrupt:
        without = ", without --fresh," if options.fresh else ""
        if checkpoint.exists():
            print(f"stopped; the same command{without} resumes from {checkpoint}")
        raise
    if record is None:
        return  # the first process writes
    write_record(files.record, record)
    print_result(record)
    print(f"wrote {files.record}")
    for model in models:
        export_peft(model, options.export)
        print(f"wrote the adapter as PEFT reads it to {options.export}")


def data(options: argparse.Namespace) -> None:
    """Say what data and weights are here, from where, with their checksums."""
    for key in options.fetch or ():
        dataset = load_dataset(key)
        sizes = ", ".join(f"{len(getattr(dataset, s))} {s}" for s in ("train", "dev", "test"))
        print(f"{key}: {sizes}; {dataset.source}")
    if options.fetch:
        return
    for row in describe_data():
        state = f"here: {row['path']}" if row["here"] else "not here"
        print(f"{row['key']}\n  what      {row['what']}\n  source    {row['source']}")
        print(f"  licence   {row['licence']}\n  state     {state}")
        if row["sha256"]:
            print(f"  sha256    {row['sha256']}")
