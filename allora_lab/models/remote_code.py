"""Code that comes with a model: refused unless it is asked for, and then said aloud."""

import warnings
from pathlib import Path

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from allora_lab.models.config_file import read_config_file
from allora_lab.models.hub import MODEL_FILES, fetch_snapshot

CODE_FILES = (*MODEL_FILES, "*.py")


class RemoteCodeWarning(UserWarning):
    """Code that came with a model is about to be run."""


def code_of(folder: Path) -> list[str]:
    """Return the files of Python that a model's config.json names as its own, sorted."""
    named = read_config_file(folder).get("auto_map") or {}
    flat = [n for value in named.values() for n in (value if isinstance(value, list) else [value])]
    return sorted({f"{name.rsplit('.', 1)[0]}.py" for name in flat if name})


def allow_code(folder: Path, name: str, *, is_trusted: bool) -> bool:
    """Return whether a model's own code is to be run; RemoteCodeWarning says so when it is.

    A model of a kind that transformers knows needs no code of its own, and runs it only if asked.

    Raises
    ------
    ValueError
        When there is no other way to build the model, and nobody asked for its code.
    """
    files = code_of(folder)
    if not files:
        return False
    listed = " and ".join(files)
    if is_trusted:
        warnings.warn(
            f"running {listed}, code that comes with {name} and can do whatever you can: read it in "
            f"{folder} before you trust it",
            RemoteCodeWarning,
            stacklevel=3,
        )
        return True
    if read_config_file(folder).get("model_type") in CONFIG_MAPPING:
        return False
    raise ValueError(
        f"{name} is built by code of its own ({listed}), which would run with all your rights: read it, "
        "then ask for it with --trust-remote-code (trust_remote_code=True)"
    )


def with_code(folder: Path, repo: str, revision: str | None) -> Path:
    """Return the folder of a hub model with its code, which is fetched if it is not there."""
    missing = [n for n in code_of(folder) if "--" not in n and not (folder / n).exists()]
    return fetch_snapshot(repo, revision, patterns=CODE_FILES) if missing else folder
