"""E2E: a restaurant's record turned into a sentence (Novikova et al. 2017), ALoRA's Table 2.

Read from ALLORA_LAB_DATA/e2e_nlg: the records and texts of harvardnlp/neural-template-gen for
training (`e2e_aligned.tar.gz`), those of microsoft/LoRA for dev and test (`valid.txt.gz`,
`test.txt.gz`, lines of "record||text").  Both are written here as the latter are.  Dev and test hold
each record once, with every text people wrote for it as a reference.
"""

import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from allora_lab.data.archive import read_bounded
from allora_lab.data.json_rows import read_text
from allora_lab.data.local import digest_of
from allora_lab.data.prompts import Prompt, PromptDataset, PromptSplit, in_fixed_order
from allora_lab.files import local_data_folder

ARCHIVE = "e2e_aligned.tar.gz"
FILES = (ARCHIVE, "valid.txt.gz", "test.txt.gz")
FIELDS = {  # of the training file's names
    "name": "name",
    "eatType": "Type",
    "food": "food",
    "priceRange": "price",
    "customerrating": "customer rating",
    "area": "area",
    "familyFriendly": "family friendly",
    "near": "near",
}
FIELD = re.compile(r"__start_(\w+?)__ (.*?) __end_\1__")
END = "<eos>"


def e2e_files() -> tuple[Path, ...]:
    """Return the three files below ALLORA_LAB_DATA; none when it is unset.

    Raises FileNotFoundError when one is missing.
    """
    data = local_data_folder()
    if data is None:
        return ()
    paths = tuple(data / "e2e_nlg" / name for name in FILES)
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"the data set e2e in ALLORA_LAB_DATA lacks {path}: add it")
    return paths


def record_text(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a record as the model reads it: "name : X | Type : pub ||"."""
    return f"{' | '.join(f'{name} : {value}' for name, value in pairs)} ||"


def _spoken(text: str) -> str:
    """Return a text with a blank before it, as it follows the record."""
    return f" {text.strip()}"


def _training(path: Path) -> Iterator[Prompt]:
    """Yield the pairs of the archive's src_train.txt and train.txt, line by line."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            members = [
                archive.extractfile(f"e2e_aligned/{n}") for n in ("src_train.txt", "train.txt")
            ]
            records, texts = (
                read_bounded(m, str(path)).decode("utf-8").splitlines() for m in members if m
            )
    except (tarfile.TarError, KeyError, EOFError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path} is damaged or not the original ({error}): put it back") from error
    if len(records) != len(texts):
        raise ValueError(
            f"{path} has {len(records)} records and {len(texts)} texts: put the original back"
        )
    for record, text in zip(records, texts, strict=True):
        fields = [(FIELDS[name], value) for name, value in FIELD.findall(record) if name in FIELDS]
        yield Prompt(record_text(fields), _spoken(text.partition(END)[0]))


def _held_out(path: Path) -> list[Prompt]:
    """Return one prompt a record, with all its texts as references, the first as its answer."""
    texts: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        record, found, text = line.partition("||")
        if not found or not text.strip():
            raise ValueError(
                f"line {number} of {path} is not 'record||text': put the original file back"
            )
        texts.setdefault(f"{record.strip()} ||", []).append(text.strip())
    return in_fixed_order(
        Prompt(record, _spoken(said[0]), references=tuple(said)) for record, said in texts.items()
    )


def load_e2e(key: str) -> PromptDataset:
    """Return the records with their texts.

    Raises
    ------
    FileNotFoundError
        When ALLORA_LAB_DATA is not set, or lacks a file.
    ValueError
        When a file is damaged or not of the form expected.
    """
    paths = e2e_files()
    if not paths:
        raise FileNotFoundError(
            f"the data set e2e needs ALLORA_LAB_DATA/e2e_nlg with {', '.join(FILES)}: copy them from "
            "https://github.com/harvardnlp/neural-template-gen and https://github.com/microsoft/LoRA"
        )
    dev, test = _held_out(paths[1]), _held_out(paths[2])
    tested = {prompt.text for prompt in test}
    dev = [prompt for prompt in dev if prompt.text not in tested]
    held = tested | {prompt.text for prompt in dev}
    train = in_fixed_order(p for p in _training(paths[0]) if p.text not in held)
    return PromptDataset(
        key,
        train=PromptSplit(tuple(train)),
        dev=PromptSplit(tuple(dev)),
        test=PromptSplit(tuple(test)),
        source=f"local files: {', '.join(FILES)}",
        revision=digest_of(paths),
    )
