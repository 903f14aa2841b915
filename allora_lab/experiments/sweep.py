"""A sweep: a TOML file of blocks, expanded to runs; `sweep_run` runs those that lack a record.

name = "escape"                     # records go to results/escape/
[base]                              # values every run shares; all others are the defaults
steps = 96
[[block]]                           # blocks run in the order they stand
set = { method = "allora" }
vary = { eta_squared = [1, 4], seed = [0, 1, 2] }     # every combination
[[compare]]                         # for tables: see `comparison_config`
"""

import itertools
import math
import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from allora_lab.checks import require_at_most, require_kind, require_known
from allora_lab.config import RunConfig, config_from
from allora_lab.data.datasets import prompt_set
from allora_lab.experiments.comparison_config import Comparison, comparisons_from
from allora_lab.experiments.records import failure_path, look_up
from allora_lab.models.small_decoder import SMALL_DECODER

LARGEST_SWEEP = 100_000  # runs of a block; the largest of this repository has a few hundred
LARGEST_TOML = 1_000_000  # bytes; a sweep of this repository has a few thousand


@dataclass(frozen=True)
class Sweep:
    """A name, the runs in the order of the file, each once, and which are compared with which."""

    name: str
    configs: tuple[RunConfig, ...]
    comparisons: tuple[Comparison, ...] = ()

    def pending(
        self, part: int = 0, parts: int = 1, *, retry_failed: bool = False
    ) -> list[RunConfig]:
        """Return the runs without a record, of every `parts`-th run from `part` on.

        A run that failed is not tried again, for it would most likely fail again, unless asked.
        """
        share = self.configs[part::parts]
        done = look_up(self.name, share).run_ids
        return [
            config
            for config in share
            if config.run_id not in done
            and (retry_failed or not failure_path(self.name, config).exists())
        ]


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file's values; ValueError says where it is malformed."""
    return toml_values(path, toml_text(path))


def toml_text(path: Path) -> str:
    """Return the text of a TOML file; ValueError for a folder, a large file or one not in UTF-8."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a TOML file in it")
    if path.exists() and path.stat().st_size > LARGEST_TOML:
        raise ValueError(
            f"{path} has more than {LARGEST_TOML:,} bytes, so it is no TOML of settings"
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from None


def toml_values(path: Path, text: str) -> dict[str, Any]:
    """Return the values of a TOML file with this text; ValueError says where it is malformed."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise ValueError(
            f"{path} nests brackets too deeply: write plain lists and tables"
        ) from None
    except ValueError as error:  # a whole number of thousands of digits
        raise ValueError(f"{path} has a value that cannot be read ({error}): correct it") from None


def expand_block(base: dict[str, Any], block: dict[str, Any]) -> list[RunConfig]:
    """Return one run for every combination of the lists in `vary`."""
    for key in block:
        require_known("key of a block", key, ("set", "vary"))
    require_kind("set of a block", block.get("set", {}), dict, "a table such as { r = 8 }")
    require_kind("vary of a block", block.get("vary", {}), dict, "a table such as { r = [4, 8] }")
    for key, values in block.get("vary", {}).items():
        require_kind(f"vary of {key}", values, list, "a list of values")
        if not values:
            raise ValueError(f"vary of {key} is empty: name at least one value, or leave {key} out")
    runs = math.prod(map(len, block.get("vary", {}).values()))
    require_at_most("the number of runs of a block", runs, LARGEST_SWEEP)
    fixed, vary = {**base, **block.get("set", {})}, block.get("vary", {})
    return [
        _checked(config_from({**fixed, **dict(zip(vary, values, strict=True))}))
        for values in itertools.product(*vary.values())
    ]


def _checked(config: RunConfig) -> RunConfig:
    """Return a run whose data set and model have a name that there can be; no file is read.

    A path passes, so that the tables of a sweep can be made where its model is not.
    """
    prompt_set(config.dataset)
    if "/" not in config.model and not Path(config.model).is_dir():
        ways = ("a folder with config.json", "a hub id org/name as openai-community/gpt2")
        require_known("model", config.model, ("minilm", SMALL_DECODER, *ways))
    return config


def read_sweep(path: Path) -> Sweep:
    """Return the sweep of a TOML file; ValueError names a key or value that is wrong."""
    return _sweep_in(path, toml_text(path))


@lru_cache(maxsize=64)
def _sweep_in(path: Path, text: str) -> Sweep:
    values = toml_values(path, text)
    for key in values:
        require_known("key of a sweep", key, ("name", "base", "block", "compare"))
    blocks, name = values.get("block", []), values.get("name", path.stem)
    require_kind("block", blocks, list, "written as [[block]]")
    for block in blocks:
        require_kind("block", block, dict, "written as [[block]]")
    if not blocks:
        raise ValueError(f"{path} declares no run: add a [[block]] with set or vary")
    require_kind("base", values.get("base", {}), dict, "a table: write [base]")
    require_kind("name of a sweep", name, str, "text")
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"name of a sweep must be letters, digits, - and _, got {name!r}")
    configs = [config for block in blocks for config in expand_block(values.get("base", {}), block)]
    unique = {config.run_id: config for config in configs}
    return Sweep(name, tuple(unique.values()), comparisons_from(values.get("compare", [])))
