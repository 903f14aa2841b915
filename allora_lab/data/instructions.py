"""Instruction tuning on a file of the user's own, in the form of Stanford Alpaca.

Each row has `instruction` and `output`, and may have `input`; a JSON list or one object a line.
"""

from pathlib import Path

from allora_lab.data.json_rows import read_rows
from allora_lab.data.prompts import Prompt, PromptDataset, PromptSplit, in_fixed_order
from allora_lab.data.splits import HELD_OUT
from allora_lab.files import sha256_of

ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
OPENING = "Below is an instruction that describes a task{}. Write a response that appropriately "
WITH_INPUT = ", paired with an input that provides further context"


def instruction_prompt(instruction: str, given: str = "") -> str:
    """Return Alpaca's prompt, which LLM-Adapters and DoRA use too, up to where the answer begins."""
    opening = f"{OPENING.format(WITH_INPUT if given else '')}completes the request."
    middle = f"\n\n### Input:\n{given}" if given else ""
    return f"{opening}\n\n### Instruction:\n{instruction}{middle}\n\n### Response:\n"


def is_instruction_file(key: str) -> bool:
    """Return whether a data set's key is the path of such a file."""
    return key.endswith(ENDINGS)


def load_instructions(key: str) -> PromptDataset:
    """Return a file's rows, one in ten for dev and one in ten for test, by the fixed order.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When it is no JSON of this form, or has fewer than ten rows that differ.
    """
    path = Path(key)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {key}: name one with instruction and output")
    rows = read_rows(path, ("instruction", "output"))
    order = in_fixed_order(
        Prompt(instruction_prompt(row["instruction"], row.get("input") or ""), row["output"])
        for row in rows
    )
    held = len(order) // HELD_OUT
    if not held:
        raise ValueError(
            f"{key} has {len(order)} rows that differ: it takes {HELD_OUT} to hold one out"
        )
    test_texts = {prompt.text for prompt in order[:held]}
    rest = [prompt for prompt in order[held:] if prompt.text not in test_texts]
    dev_texts = {prompt.text for prompt in rest[:held]}
    return PromptDataset(
        path.name,
        train=PromptSplit(tuple(p for p in rest[held:] if p.text not in dev_texts)),
        dev=PromptSplit(tuple(rest[:held])),
        test=PromptSplit(tuple(order[:held])),
        source=f"the file {path.name}",
        revision=sha256_of(path),
    )
