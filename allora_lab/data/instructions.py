"""Instructions in the form of Stanford Alpaca: `instruction` and `output`, and perhaps `input`."""

from allora_lab.data.json_rows import Numbered, text_of
from allora_lab.data.prompts import Prompt, PromptRow

OPENING = "Below is an instruction that describes a task{}. Write a response that appropriately "
WITH_INPUT = ", paired with an input that provides further context"
EXPECTED = "each row needs text under instruction and output, and may have input"


def instruction_prompt(instruction: str, given: str = "") -> str:
    """Return Alpaca's prompt, which LLM-Adapters and DoRA use too, up to where the answer begins."""
    opening = f"{OPENING.format(WITH_INPUT if given else '')}completes the request."
    middle = f"\n\n### Input:\n{given}" if given else ""
    return f"{opening}\n\n### Instruction:\n{instruction}{middle}\n\n### Response:\n"


def instruction_row(numbered: Numbered) -> PromptRow:
    """Return the prompt and answer of a row; ValueError names a row that lacks one or is no text."""
    where, row = numbered
    instruction, output = (text_of(row, n, where, EXPECTED) for n in ("instruction", "output"))
    given = "" if row.get("input") is None else text_of(row, "input", where, EXPECTED)
    if not output.strip():
        raise ValueError(f"{where} has an empty output: write an answer, or remove the row")
    return (Prompt(instruction_prompt(instruction, given), output),)
