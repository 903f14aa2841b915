"""The command line's flags: one for each setting of a run, and one sentence for what is no flag.

A flag's help, its choices and its group are those of the setting (see `settings`).
"""

import argparse
import difflib
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any, NoReturn

from allora_lab.checks import shortened
from allora_lab.settings import GROUPS, SIZES, RunSettings, kind_of

# What people type, from other tools, for flags that have another name here.
SAID_ELSEWHERE = {
    "--learning-rate": "--lr",
    "--rank": "--r",
    "--lora-r": "--r",
    "--alpha": "--lora-alpha",
    "--dropout": "--lora-dropout",
    "--eta": "--eta-squared",
    "--data": "--dataset",
    "--train-data": "--dataset",
    "--model-name-or-path": "--model",
    "--num-train-epochs": "--epochs",
    "--max-steps": "--steps",
    "--num-steps": "--steps",
    "--per-device-train-batch-size": "--batch-size",
    "--accumulate": "--gradient-accumulation-steps",
    "--max-grad-norm": "--clip-norm",
    "--warmup": "--warmup-steps",
    "--lr-scheduler-type": "--schedule",
    "--optim": "--optimizer",
    "--max-seq-length": "--max-length",
    "--bf16": "--dtype bfloat16",
    "--output-dir": "--out",
}
NAMES = re.compile(r"[\w.-]+(,[\w.-]+)+")  # names with commas between, and no expression


class Parser(argparse.ArgumentParser):
    """A parser that says in one sentence what is wrong, with the nearest flag, and leaves with 2."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        """Print the message as one sentence and exit with status 2."""
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message, re.DOTALL)
        if wrong:
            names = re.findall(r"[\w-]+", wrong[2])
            near = difflib.get_close_matches(wrong[1][:80], names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            message = f"unknown {message.split(':')[0]}: {hint}choose one of {', '.join(names)}"
        self.exit(2, f"allora-lab: {' '.join(message.split())} (see {self.prog} --help)\n")

    def read(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """Return the options of a command line; what is no flag of its command is named."""
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            (commands,) = (a for a in self._actions if isinstance(a, argparse._SubParsersAction))
            command = commands.choices[options.command]
            command.error(_unknown(unknown[0], command._option_string_actions))
        return options


def _unknown(word: str, flags: Collection[str]) -> str:
    if not word.startswith("-"):
        return f"{shortened(word)} is not expected here: leave it out"
    flag = word.split("=")[0].replace("_", "-")[:80]
    near = difflib.get_close_matches(flag, [*flags, *SAID_ELSEWHERE], n=1, cutoff=0.6)
    meant = SAID_ELSEWHERE.get(near[0], near[0]) if near else None
    hint = f": did you mean {meant}?" if meant and meant.split()[0] in flags else ""
    return f"unknown flag {shortened(flag)}{hint}"


def whole(text: str) -> int:
    """Return a flag's whole number."""
    if not re.fullmatch(r"\s*[+-]?[0-9_]{1,100}\s*", text):
        raise argparse.ArgumentTypeError(f"must be a whole number, got {shortened(text)}")
    return _read(int, text, "a whole number")


def whole_or_all(text: str) -> int | str:
    """Return a flag's whole number, or "all"."""
    return text if text == "all" else whole(text)


def number(text: str) -> float:
    """Return a flag's number."""
    return _read(float, text, "a number")


def _read(kind: Callable[[str], Any], text: str, words: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {words}, got {shortened(text)}") from None


def names_in(words: Sequence[str]) -> list[str]:
    """Return names written with spaces or commas between; an expression stays as it is."""
    return [
        name for word in words for name in (word.split(",") if NAMES.fullmatch(word) else [word])
    ]


def targets_in(words: Sequence[str]) -> str | tuple[str, ...]:
    """Return target modules: names; or the one word that is no name, all-linear or an expression."""
    names = names_in(words)
    return names[0] if len(names) == 1 and not names[0].isidentifier() else tuple(names)


def add_settings(parser: argparse.ArgumentParser) -> dict[str, argparse._ArgumentGroup]:
    """Add a flag for each setting of a run, in the groups of the settings, which are returned."""
    groups = {name: parser.add_argument_group(name) for name in GROUPS}
    for field in fields(RunSettings):
        add_flag(groups[field.metadata["group"]], field)
    return groups


def add_flag(group: argparse._ArgumentGroup, field: Field) -> None:
    """Add the flag of one setting; one that is not given is None, so that a TOML file may say it."""
    kind, limits = kind_of(field.type), field.metadata
    words = ", ".join(limits.get("choices", ()))
    words = ": ".join(filter(None, (limits["help"], words)))
    if field.default is not None and field.default is not MISSING and kind is not bool:
        shown = " ".join(field.default) if isinstance(field.default, tuple) else field.default
        words += f" ({shown})"
    settings: dict[str, Any] = {"default": None, "help": words.replace("%", "%%")}
    if kind is bool:
        settings["action"] = argparse.BooleanOptionalAction
    elif kind in (int, float):
        reads = {int: whole, float: number}[kind]
        settings |= {"type": reads, "metavar": "N" if kind is int else "X"}
    elif kind is not str:
        settings |= {"nargs": "+", "metavar": "NAME"}
    if field.name in SIZES:
        settings |= {"type": whole_or_all, "metavar": "N|all"}
    group.add_argument(f"--{field.name.replace('_', '-')}", **settings)
