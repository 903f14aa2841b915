"""What identifies a run: everything that can change its numbers, and nothing else."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

from allora_lab.build import resolve_settings
from allora_lab.checks import (
    require_at_least,
    require_known,
    require_probability,
    require_type,
)
from allora_lab.methods import DEFAULT_ETA_SQUARED, get_method
from allora_lab.settings import (
    HOOK_SETTINGS,
    SIZES,
    RunSettings,
    attributes_section,
    kind_of,
    require_in_range,
)
from allora_lab.training.optimizers import OPTIMIZERS

LONGEST_NAME = 150  # bytes of a model's and a data set's name, which are part of file names


@dataclass(frozen=True, kw_only=True)
class RunConfig(RunSettings):
    """One fine-tune: model x data set x method x hyper-parameters x seed.

    Every value is checked, and a None is filled with what it stands for, so that one run has one
    identity: eta_squared is 4 for methods that read it and None for others; a lora_alpha equal to r
    becomes None; lr and head_lr become the optimizer's own rate, each whatever the other is, so that
    methods compared at several lr share one head rate.
    """

    def __post_init__(self) -> None:
        """Check every value and fill in what a None stands for."""
        for field in fields(self):
            require_type(field.name, getattr(self, field.name), field.type)
        method = get_method(self.method)
        self._check_ranges()
        for name in HOOK_SETTINGS:
            if getattr(self, name) is not None and name not in method.hook_settings:
                raise ValueError(f"{self.method} does not use {name}: leave it out")
        if self.eta_squared is not None and not method.reads_eta_squared:
            raise ValueError(f"{self.method} does not use eta_squared: leave it out")
        self._check_together()
        for name, value in self._filled().items():
            object.__setattr__(self, name, value)
        resolve_settings(  # refuses what the adapters would refuse, before anything is loaded
            method,
            r=self.r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            eta_squared=self.eta_squared,
        )

    def _check_ranges(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) is not None:
                require_in_range(field.name, getattr(self, field.name))
        if self.lora_dropout is not None:
            require_probability("lora_dropout", self.lora_dropout)
        require_at_least("weight_decay", self.weight_decay, 0)

    def _check_together(self) -> None:
        if get_method(self.method).build_hook and (self.dtype != "float32" or self.compile):
            raise ValueError(
                f"{self.method} moves or weighs ranks, which needs float32 and no compile: leave "
                "dtype and compile out"
            )
        if self.gradient_draws is not None and self.eval_every is None:
            raise ValueError("gradient_draws needs eval_every: say how often to measure")
        if self.gradient_draws is not None and self.gradient_accumulation_steps > 1:
            raise ValueError(
                "gradient_draws measures the gradient of single batches: leave out "
                "gradient_accumulation_steps"
            )
        if len("".join(_names(self)).encode()) > LONGEST_NAME:
            raise ValueError(
                f"the names of model and dataset are longer than {LONGEST_NAME} bytes together, too "
                "long for the name of a file: rename the folder or the file"
            )

    def _filled(self) -> dict[str, Any]:
        """Return every value, with what a None stands for in its place; 1 and 1.0 are one value."""
        method, default_lr = get_method(self.method), OPTIMIZERS[self.optimizer].default_lr
        stands_for = {
            "eta_squared": DEFAULT_ETA_SQUARED if method.reads_eta_squared else None,
            "lora_dropout": method.lora_dropout,
            "lr": default_lr,
            "head_lr": default_lr,
        }
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {name: value for name, value in stands_for.items() if values[name] is None}
        if method.reads_lora_alpha and values["lora_alpha"] == self.r:
            values["lora_alpha"] = None
        if not isinstance(self.target_modules, str):
            values["target_modules"] = tuple(self.target_modules)
        for field in fields(self):
            if kind_of(field.type) is float and values[field.name] is not None:
                values[field.name] = float(values[field.name])
        return values

    def to_json(self) -> dict[str, Any]:
        """Return every setting, as JSON would give it back."""
        return json.loads(json.dumps(asdict(self)))

    @cached_property
    def run_id(self) -> str:
        """Return a file-safe name a person can read and a digest that no edit can dodge.

        The digest is of the settings that differ from the defaults, so that a setting added later
        does not rename the runs made before it.
        """
        defaults = {field.name: field.default for field in fields(self)}
        values = {name: getattr(self, name) for name in defaults}
        changed = {k: v for k, v in values.items() if v != defaults[k]}
        digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()
        parts = (*_names(self), self.method, self.optimizer, f"seed{self.seed}", digest[:8])
        return "--".join(parts)

    def with_changes(self, **changes: Any) -> "RunConfig":
        """Return the configuration with some values changed and checked again."""
        return replace(self, **changes)

    def without_seed(self) -> "RunConfig":
        """Return the setting that runs of several seeds share, which stands as its run of seed 0."""
        setting = object.__new__(RunConfig)  # what is checked already is not checked again
        for field in fields(self):
            object.__setattr__(setting, field.name, getattr(self, field.name))
        object.__setattr__(setting, "seed", 0)
        return setting


RunConfig.__doc__ += attributes_section()


def _names(config: RunConfig) -> tuple[str, str]:
    """Return the last parts of a model's and a data set's name."""
    return tuple(name.rstrip("/").rsplit("/", 1)[-1] for name in (config.model, config.dataset))


def scaled_rate(lr: float, eta_squared: float) -> float:
    """Return η × lr to four digits, so that a rate written in a TOML file names the same run."""
    return float(f"{math.sqrt(eta_squared) * lr:.4g}")


def config_from(values: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a TOML table, of a record or of flags.

    Raises
    ------
    ValueError
        For a key that does not exist (naming the nearest), a value of the wrong type, or a missing
        method.
    """
    if "epochs" in values:
        raise ValueError("epochs are for `allora-lab run` alone: write steps here")
    types = {field.name: field.type for field in fields(RunConfig)}
    for key in values:
        require_known("setting", key, types)
    if "method" not in values:
        raise ValueError('no method is named: add method = "allora", or another of the table')
    values = {k: None if k in SIZES and v == "all" else v for k, v in values.items()}
    for key, value in values.items():
        require_type(key, value, types[key])
    return RunConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
