"""Every data set by its key: texts to be classified, and prompts to be answered by a decoder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from allora_lab.checks import require_known
from allora_lab.data.commonsense import commonsense_files, load_commonsense
from allora_lab.data.e2e import e2e_files, load_e2e
from allora_lab.data.own import holds_texts, is_own, load_own
from allora_lab.data.own_files import revision_of
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
OWN_PROMPTS = PromptSetInfo(
    load_own,
    tuple,
    Decoding(num_beams=1, max_new_tokens=64),
    "instructions or chats of your own",
    "yours",
    "the file or folder named",
)
OWN_WAYS = "a file such as my_rows.csv or my_rows.jsonl, a folder"


def _is_listed(key: str) -> bool:
    """Return whether a key is of the lab's own sets; raises ValueError if it is no set at all."""
    listed = (*DATASETS, *PROMPT_SETS)
    if key not in listed and not is_own(key):
        require_known("data set", key, (*listed, OWN_WAYS))
    return key in listed


def prompt_set(key: str) -> PromptSetInfo | None:
    """Return the row of a set of prompts; None for a set of texts to be classified.

    Raises ValueError for a key that is neither, nor a file or folder of the user's own; for those
    the first row tells, and errors are as in `load_dataset`.
    """
    if _is_listed(key):
        return PROMPT_SETS.get(key)
    return None if holds_texts(key) else OWN_PROMPTS


def own_revision(key: str) -> str | None:
    """Return the digest of a user's file or folder as it is now; None for other sets, or if absent."""
    if key in DATASETS or key in PROMPT_SETS or not is_own(key) or not Path(key).exists():
        return None
    return revision_of(Path(key))


def load_dataset(key: str) -> TextDataset | PromptDataset:
    """Return a data set with its fixed splits, none of them empty.

    Parameters
    ----------
    key
        A key of the lab's sets; or a file of the user's own, .csv, .tsv, .json or .jsonl, with
        columns text and label, or instruction and output, or messages; or a folder of such files
        called train, dev and test; or a folder that `save_to_disk` of the library datasets wrote.

    Raises
    ------
    ValueError
        For an unknown key, a file that is not as expected, or a split without a row.
    FileNotFoundError
        When a file is missing.
    ConnectionError
        When the set has to be fetched and cannot be.
    """
    if not _is_listed(key):
        return load_own(key)
    row = PROMPT_SETS.get(key)
    dataset = row.load(key) if row else load_text(key)
    for name in ("train", "dev", "test"):
        if not len(getattr(dataset, name)):
            raise ValueError(f"the data set {key} has no row in its {name} split: {dataset.source}")
    return dataset
