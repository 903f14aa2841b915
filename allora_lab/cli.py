"""The command line.  Heavy modules are imported inside the commands, so `--help` is instant."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from allora_lab import __version__
from allora_lab.checks import SPOKEN, is_for_the_user
from allora_lab.flags import Parser, add_settings, number, whole
from allora_lab.settings import OPTIMIZATION
from allora_lab.training.interrupt import Terminated, sigterm_raises

SWEEP_ACTIONS = ("sweep", "status", "tables", "pages")
BUG = "This is a bug in allora_lab or in a library it uses: please report it with this traceback."


def _parser() -> Parser:
    parser = Parser(
        prog="allora-lab",
        description="Fine-tune a real language model with LoRA, ALLoRA and their relatives on a "
        "laptop, and see what their norms do.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_run(commands)
    _add_figure(commands)
    _add_data(commands)
    _add_sweep(commands)
    _add_status(commands)
    _add_tables(commands)
    _add_pages(commands)
    _add_plan(commands)
    for command in commands.choices.values():
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _add_demo(commands: argparse._SubParsersAction) -> None:
    demo = commands.add_parser("demo", help="seven short fine-tunes: norms escaping from zero")
    demo.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of escape.json and .png"
    )
    demo.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    demo.set_defaults(action="demo")


def _add_run(commands: argparse._SubParsersAction) -> None:
    run = commands.add_parser(
        "run",
        help="one fine-tune, from flags or a TOML file",
        usage="%(prog)s --method METHOD [flags]",
        description="One fine-tune. Settings are those of allora_lab.RunConfig, from --config "
        "FILE.toml, from flags such as --method allora --eta-squared 4, or both (flags win). "
        "Ctrl-C leaves a checkpoint; the same command resumes it.",
    )
    groups = add_settings(run)
    groups[OPTIMIZATION].add_argument(
        "--epochs",
        type=number,
        metavar="X",
        help="passes over the training data, in place of steps",
    )
    output = run.add_argument_group("input and output")
    output.add_argument("--config", type=Path, metavar="FILE.toml", help="TOML file of settings")
    output.add_argument("--out", type=Path, default=Path("out"), help="folder of the record (out)")
    output.add_argument(
        "--export", type=Path, metavar="DIR", help="write the trained adapter here, for PEFT"
    )
    output.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    output.add_argument(
        "--fresh", action="store_true", help="train anew even if the run is recorded"
    )
    output.add_argument(
        "--deterministic", action="store_true", help="kernels that repeat themselves"
    )
    output.add_argument(
        "--trust-remote-code", action="store_true", help="run code that comes with MODEL"
    )
    run.set_defaults(action="run")


def _add_figure(commands: argparse._SubParsersAction) -> None:
    figure = commands.add_parser("figure", help="write NAME.json and NAME.png")
    figure.add_argument("name", nargs="?", metavar="NAME")
    figure.add_argument("--list", action="store_true", help="list the figures")
    figure.add_argument("--out", type=Path, default=Path("out"), metavar="DIR")
    figure.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    figure.add_argument(
        "--fresh", action="store_true", help="train every run anew, recorded or not"
    )
    figure.set_defaults(action="figure")


def _add_data(commands: argparse._SubParsersAction) -> None:
    data = commands.add_parser("data", help="what data and weights are here, from where")
    data.add_argument("--fetch", nargs="+", metavar="KEY", help="fetch data sets into the cache")
    data.set_defaults(action="data")


def _add_sweep(commands: argparse._SubParsersAction) -> None:
    sweep = commands.add_parser("sweep", help="run what a sweep file lacks records of")
    sweep.add_argument("file", type=Path, metavar="FILE.toml")
    sweep.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    sweep.add_argument(
        "--workers", type=whole, default=1, metavar="N", help="processes of a local Dask cluster"
    )
    sweep.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler to run on")
    sweep.add_argument("--part", type=whole, default=0, metavar="I", help="which share, from 0")
    sweep.add_argument("--parts", type=whole, default=1, metavar="N", help="how many shares")
    sweep.add_argument("--dry-run", action="store_true", help="only say what would be run")
    sweep.add_argument("--retry-failed", action="store_true", help="also run what failed before")
    sweep.set_defaults(action="sweep")


def _add_status(commands: argparse._SubParsersAction) -> None:
    status = commands.add_parser("status", help="how many runs of each sweep are recorded")
    status.add_argument("files", type=Path, nargs="*", metavar="FILE.toml")
    status.set_defaults(action="status")


def _add_tables(commands: argparse._SubParsersAction) -> None:
    tables = commands.add_parser(
        "tables", help="means, intervals and paired comparisons of what is recorded"
    )
    tables.add_argument("files", type=Path, nargs="*", metavar="FILE.toml")
    tables.add_argument("--out", type=Path, default=Path("out"), metavar="DIR")
    tables.set_defaults(action="tables")


def _add_pages(commands: argparse._SubParsersAction) -> None:
    pages = commands.add_parser(
        "pages", help="write every table and measured number of README and docs/ from the records"
    )
    pages.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if one is out of date"
    )
    pages.set_defaults(action="pages")


def _add_plan(commands: argparse._SubParsersAction) -> None:
    plan = commands.add_parser(
        "plan",
        help="what a fine-tune would take, from a model's configuration alone",
        description="Parameters, memory by part, whether it fits a GPU, and a bound on the speed. No "
        "weight is read. MODEL is minilm, a folder with a config.json, a hub id, or a shape: "
        "llama-7b, llama-13b, llama-70b, smollm-135m, qwen2-0.5b.",
    )
    plan.add_argument("model", metavar="MODEL")
    plan.add_argument("--method", default="allora", help="a key of the table of methods")
    plan.add_argument("--r", type=whole, default=8, metavar="N")
    plan.add_argument("--target-modules", nargs="+", metavar="NAME", help="(all-linear)")
    plan.add_argument("--task", default="sequence-classification", help="or causal-lm")
    plan.add_argument("--batch-size", type=whole, default=16, metavar="N")
    plan.add_argument("--max-length", type=whole, default=128, metavar="N")
    plan.add_argument("--dtype", default="float32", help="float32 or bfloat16")
    plan.add_argument("--optimizer", default="adamw", help="adamw, sgd or adafactor")
    plan.add_argument("--gradient-checkpointing", action="store_true")
    plan.add_argument("--gpu", metavar="NAME", help="h100, a100-40gb, rtx4090, t4, ...")
    plan.add_argument("--memory", type=number, metavar="GIB", help="a GPU's memory")
    plan.add_argument("--peak", type=number, metavar="TFLOPS", help="a GPU's peak")
    plan.set_defaults(action="plan")


def _sentence(error: BaseException) -> str:
    """Return what is said of an error in one line."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _require_one_process(action: str) -> None:
    if action != "run" and os.environ.get("WORLD_SIZE", "1") not in ("0", "1", ""):
        raise ValueError(
            f"{action} is for one process, and a launcher started several: only run shares its "
            "work; for a sweep use --workers N"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; bad input prints one sentence and returns 2, Ctrl-C returns 130, SIGTERM 143.

    Any other exception is a bug: it leaves with its traceback and a note that says so.
    """
    options = _parser().read(arguments)
    try:
        from allora_lab import commands, plan_command, sweep_commands  # they import torch

        module = sweep_commands if options.action in SWEEP_ACTIONS else commands
        module = plan_command if options.action == "plan" else module
        action: Callable[[argparse.Namespace], None] = getattr(module, options.action)
        _require_one_process(options.action)
        with sigterm_raises():
            action(options)
    except SPOKEN as error:
        if not is_for_the_user(error):
            error.add_note(BUG)
            raise
        if options.debug:
            traceback.print_exception(error)
        print(f"allora-lab: {_sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print("allora-lab: stopped", file=sys.stderr)
        return 143 if isinstance(error, Terminated) else 130
    return 0
