"""Every data set by its key: texts to be classified, and prompts to be answered by a decoder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from allora_lab.checks import require_known
from allora_lab.data.commonsense import commonsense_files, load_commonsense
from allora_lab.data.e2e import e2e_files, load_e2e
from allora_lab.data.instructions import is_instruction_file, load_instructions
from allora_lab.data.prompts import PromptDataset
from allora_lab.data.text import DATASETS, TextDataset, load_text


@dataclass(frozen=True)
class Decoding:
    """How answers are generated: beam search of so many beams (1: greedy), at most so many tokens."""

    num_beams: int
    max_new_tokens: int


@dataclass(frozen=True)
class PromptSetInfo:
    """One row of the table: how it is loaded and decoded, its files here, what it is and whose."""

    load: Callable[[str], PromptDataset]
    files: Callable[[], tuple[Path, ...]]
    decoding: Decoding
    description: str
    licence: str
    source: str


PROMPT_SETS: dict[str, PromptSetInfo] = {
    "commonsense": PromptSetInfo(
        load_commonsense,
        lambda: tuple(path for part in commonsense_files() for path in part.values()),
        Decoding(num_beams=4, max_new_tokens=32),  # as DoRA's and LLM-Adapters' script
        "eight multiple-choice tasks (LLM-Adapters)",
        "ODC-By",
        "the folder ALLORA_LAB_DATA",
    ),
    "e2e": PromptSetInfo(
        load_e2e,
        e2e_files,
        Decoding(num_beams=5, max_new_tokens=64),  # ALoRA §4.3: beam 5
        "records of restaurants and texts about them (E2E)",
        "CC BY-SA 4.0 (data), MIT (files)",
        "the folder ALLORA_LAB_DATA",
    ),
}
INSTRUCTIONS = PromptSetInfo(
    load_instructions,
    tuple,
    Decoding(num_beams=1, max_new_tokens=64),
    "a file of instructions of your own",
    "yours",
    "the file named",
)


def prompt_set(key: str) -> PromptSetInfo | None:
    """Return the row of a set of prompts; None for a set of texts to be classified.

    Raises ValueError for a key that is neither, nor a .json or .jsonl file.
    """
    if is_instruction_file(key):
        return INSTRUCTIONS
    require_known("data set", key, (*DATASETS, *PROMPT_SETS, "a file such as my_rows.jsonl"))
    return PROMPT_SETS.get(key)


def load_dataset(key: str) -> TextDataset | PromptDataset:
    """Return a data set with its fixed splits.

    Raises
    ------
    ValueError
        For an unknown key, or a file that is not as expected.
    FileNotFoundError
        When a file is missing.
    ConnectionError
        When the set has to be fetched and cannot be.
    """
    row = prompt_set(key)
    return row.load(key) if row else load_text(key)
