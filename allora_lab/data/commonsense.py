"""The commonsense tasks of LLM-Adapters (Hu et al. 2023, arXiv 2304.01933), ALLoRA's Table 1.

Read from ALLORA_LAB_DATA/commonsense: `TASK_train.json` and `TASK_test.json`, or as LLM-Adapters'
own checkout has them, `commonsense_170k.json` and `TASK/test.json`; each plain or with .gz.  What is
not there is left out.  The training set is all training rows mixed, one in ten of them held out as
dev; the test set takes the tasks in turns.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from allora_lab.data.instructions import instruction_prompt
from allora_lab.data.json_rows import read_rows
from allora_lab.data.local import digest_of
from allora_lab.data.prompts import Prompt, PromptDataset, PromptSplit, in_fixed_order, in_turns
from allora_lab.data.splits import HELD_OUT
from allora_lab.files import local_data_folder

TASKS = (
    "boolq",
    "piqa",
    "social_i_qa",
    "hellaswag",
    "winogrande",
    "ARC-Easy",
    "ARC-Challenge",
    "openbookqa",
)
NEEDED = ("instruction", "output", "answer")
ORIGIN = "https://github.com/AGI-Edgerunners/LLM-Adapters"
FORMAT = re.compile(r"Answer format:\s*(\S+(?:/\S+)+)\s*$")


def _file(folder: Path, *names: str) -> Path | None:
    """Return the first file of these names that is there, plain or gzipped."""
    paths = [folder / f"{name}{end}" for name in names for end in ("", ".gz")]
    return next((path for path in paths if path.is_file()), None)


def commonsense_files() -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the training and the test files there are, by task; none when there is no folder.

    Raises FileNotFoundError when ALLORA_LAB_DATA names no folder.
    """
    data = local_data_folder()
    if data is None:
        return {}, {}
    if not data.is_dir():
        raise FileNotFoundError(
            f"ALLORA_LAB_DATA names {data}, which is not a folder: correct it or unset it"
        )
    folder = data / "commonsense"
    train = {"all": _file(folder, "commonsense_170k.json")}
    if train["all"] is None:
        train = {task: _file(folder, f"{task}_train.json") for task in TASKS}
    test = {task: _file(folder, f"{task}_test.json", f"{task}/test.json") for task in TASKS}
    return (
        {task: path for task, path in train.items() if path},
        {task: path for task, path in test.items() if path},
    )


def options_of(instruction: str) -> tuple[str, ...]:
    """Return the answers a question offers, from its last line "Answer format: a/b/c".

    Raises ValueError when it has no such line.
    """
    found = FORMAT.search(instruction)
    if not found:
        raise ValueError(
            f"the question {instruction[:60]!r} does not end in 'Answer format: a/b': use the files "
            f"of {ORIGIN}"
        )
    return tuple(found[1].split("/"))


def said(option: str) -> str:
    """Return the answer as LLM-Adapters' training rows put it."""
    return f"the correct answer is {option}"


def _prompts(task: str, path: Path) -> Iterator[Prompt]:
    for row in read_rows(path, NEEDED, optional=("input",)):
        options = options_of(row["instruction"])
        if row["answer"] not in options:
            raise ValueError(
                f"a row of {path} has the answer {row['answer']!r}, which is none of "
                f"{', '.join(options)}: put the original file back"
            )
        yield Prompt(
            instruction_prompt(row["instruction"], row.get("input") or ""),
            said(row["answer"]),
            options=tuple(map(said, options)),
            group=task,
        )


def load_commonsense(key: str) -> PromptDataset:
    """Return the tasks there are.

    Raises
    ------
    FileNotFoundError
        When ALLORA_LAB_DATA is not set or has no training or no test file of them.
    ValueError
        When a file is damaged or not of the form expected.
    """
    train_files, test_files = commonsense_files()
    if not train_files or not test_files:
        raise FileNotFoundError(
            "the commonsense tasks need ALLORA_LAB_DATA/commonsense with a training and a test "
            f"file, commonsense_170k.json and boolq/test.json or boolq_train.json and so on: copy "
            f"them from {ORIGIN}"
        )
    test = in_turns(p for task, path in test_files.items() for p in _prompts(task, path))
    asked = {prompt.text for prompt in test.prompts}
    learned = in_fixed_order(
        p for task, path in train_files.items() for p in _prompts(task, path) if p.text not in asked
    )
    held = len(learned) // HELD_OUT
    paths = (*train_files.values(), *test_files.values())
    return PromptDataset(
        key,
        train=PromptSplit(tuple(learned[held:])),
        dev=PromptSplit(tuple(learned[:held])),
        test=test,
        source=f"local files: {', '.join(path.name for path in paths)}",
        revision=digest_of(paths),
    )
