"""What identifies a run: everything that can change its numbers, and nothing else."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, get_args

from allora_lab.build import resolve_settings
from allora_lab.checks import (
    require_at_least,
    require_known,
    require_positive,
    require_probability,
    require_type,
)
from allora_lab.data.batches import LENGTH_POOL
from allora_lab.methods import DEFAULT_ETA_SQUARED, get_method
from allora_lab.training.optimizers import OPTIMIZERS, SCHEDULES

SIZES = ("train_size", "eval_size")  # "all" in a TOML file, which has no None
COUNTS = ("batch_size", "steps", "max_length", "length_pool")  # from 1 up
ROUND_COUNTS = ("rank_budget", "ranks_moved", "rounds", "first_round", "round_every")
HOOK_COUNTS = (*ROUND_COUNTS, "score_size", "copies")
HOOK_RATES = ("gate_penalty", "gate_threshold", "gate_lr", "orthogonality")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One fine-tune: model x data set x method x hyper-parameters x seed.

    Attributes
    ----------
    model, dataset, method, optimizer, schedule
        Keys of their tables (a model may also be a folder or a hub id).
    r, lora_alpha, lora_dropout, eta_squared, target_modules
        As in `inject_adapters`.  eta_squared is None for methods that do not read it, 4 where it is
        read and not given; a lora_alpha equal to r becomes None: so that one run has one identity.
    lr, head_lr
        Learning rates of the adapters and of the new head; None is the optimizer's own default for
        either, whatever the other is: methods compared at several lr then share one head rate.
    weight_decay, clip_norm, warmup_steps
        Decoupled decay (AdamW), the largest gradient norm (None: no clipping), and steps of warm-up.
    batch_size, steps
        Sentences a step, and optimizer steps.
    train_size, eval_size
        How many training and evaluation sentences are used, the first of the split (None: all).
    eval_split
        "dev" for choosing settings, "test" for reporting.
    eval_every
        Steps between evaluations, of which the first is before training; None: at the end alone.
    gradient_draws
        At each of those, how many masks, and how many batches, the spread of the adapters' gradient
        is measured over (see `training.gradient_noise`); None measures none.
    max_length, length_pool
        Tokens a sentence is cut at, and how many batches are sorted by length together: more means
        less padding and less mixing.
    base_dropout
        Whether the pretrained model's own dropout stays on.  Off, the dropout under study is
        LoRA's alone.
    rank_budget, ranks_moved, rounds, first_round, round_every, gate_penalty, gate_threshold, \
    gate_lr, orthogonality
        What methods that move ranks read, as in `AllocationSettings`; None is the method's own
        default, where first_round is one epoch and round_every a quarter of one.
    score_size
        How many sentences score the ranks, the last of dev (None: 32); `eval_size` takes the first.
    copies
        How many masks are scored together (None: 2); 0: by passes of their own, slow and frugal.
    dtype
        Of the pretrained weights; adapters, head and optimizer state are float32 either way.
    compile, gradient_checkpointing
        Whether torch.compile builds the model; whether layers are computed again, and not kept.
    seed
        Of the head, of A, of the batches and of the dropout masks.
    """

    method: str
    model: str = "minilm"
    dataset: str = "rotten_tomatoes_rated"
    r: int = 8
    lora_alpha: float | None = None
    lora_dropout: float | None = None
    eta_squared: float | None = None
    target_modules: tuple[str, ...] | str = ("query", "value")
    optimizer: str = "adamw"
    lr: float | None = None
    head_lr: float | None = None
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup_steps: int = 0
    clip_norm: float | None = None
    batch_size: int = 16
    steps: int = 96
    train_size: int | None = 4096
    eval_size: int | None = 512
    eval_split: str = "dev"
    eval_every: int | None = None
    gradient_draws: int | None = None
    max_length: int = 128
    length_pool: int = LENGTH_POOL
    base_dropout: bool = False
    rank_budget: int | None = None
    ranks_moved: int | None = None
    rounds: int | None = None
    first_round: int | None = None
    round_every: int | None = None
    score_size: int | None = None
    copies: int | None = None
    gate_penalty: float | None = None
    gate_threshold: float | None = None
    gate_lr: float | None = None
    orthogonality: float | None = None
    dtype: str = "float32"
    compile: bool = False
    gradient_checkpointing: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every value and fill in what a None stands for."""
        for field in fields(self):
            require_type(field.name, getattr(self, field.name), field.type)
        method = get_method(self.method)
        require_known("optimizer", self.optimizer, OPTIMIZERS)
        require_known("schedule", self.schedule, SCHEDULES)
        require_known("eval_split", self.eval_split, ("dev", "test"))
        require_known("dtype", self.dtype, ("float32", "bfloat16"))
        if method.build_hook and (self.dtype != "float32" or self.compile):
            raise ValueError(
                f"{self.method} moves or weighs ranks, which needs float32 and no compile: leave "
                "dtype and compile out"
            )
        if self.eta_squared is not None and not method.reads_eta_squared:
            raise ValueError(f"{self.method} does not use eta_squared: leave it out")
        default_lr = OPTIMIZERS[self.optimizer].default_lr
        filled = {
            "eta_squared": self.eta_squared
            if self.eta_squared is not None or not method.reads_eta_squared
            else DEFAULT_ETA_SQUARED,
            "lora_alpha": None
            if method.reads_lora_alpha and self.lora_alpha == self.r
            else self.lora_alpha,
            "lora_dropout": self.lora_dropout or method.lora_dropout,
            "lr": default_lr if self.lr is None else self.lr,
            "head_lr": default_lr if self.head_lr is None else self.head_lr,
            "target_modules": self.target_modules
            if isinstance(self.target_modules, str)
            else tuple(self.target_modules),
        }
        for name, value in filled.items():
            object.__setattr__(self, name, value)
        for field in fields(self):  # 1 and 1.0 are one setting and must give one run_id
            value = getattr(self, field.name)
            if float in (field.type, *get_args(field.type)) and value is not None:
                object.__setattr__(self, field.name, float(value))
        self._check_ranges()
        resolve_settings(  # refuses what the adapters would refuse, before anything is loaded
            method,
            r=self.r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout or 0.0,
            eta_squared=self.eta_squared or DEFAULT_ETA_SQUARED,
        )

    def _check_ranges(self) -> None:
        for name in ("lr", "head_lr"):
            require_positive(name, getattr(self, name))
        if self.clip_norm is not None:
            require_positive("clip_norm", self.clip_norm)
        require_probability("lora_dropout", self.lora_dropout or 0.0)
        for name in (*COUNTS, *SIZES, "eval_every"):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), 1)
        for name in (*HOOK_COUNTS, *HOOK_RATES):
            value = getattr(self, name)
            if value is not None and name not in get_method(self.method).hook_settings:
                raise ValueError(f"{self.method} does not use {name}: leave it out")
            if value is not None and name in HOOK_COUNTS:
                require_at_least(name, value, 0 if name == "copies" else 1)
            elif value is not None:
                require_positive(name, value)
        if self.gradient_draws is not None:
            require_at_least("gradient_draws", self.gradient_draws, 2)
            if self.eval_every is None:
                raise ValueError("gradient_draws needs eval_every: say how often to measure")
        require_at_least("warmup_steps", self.warmup_steps, 0)
        require_at_least("seed", self.seed, 0)
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay must be at least 0 and finite, got {self.weight_decay}")

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
        model = self.model.rstrip("/").rsplit("/", 1)[-1]
        dataset = self.dataset.rstrip("/").rsplit("/", 1)[-1]
        parts = (model, dataset, self.method, self.optimizer, f"seed{self.seed}", digest[:8])
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


def scaled_rate(lr: float, eta_squared: float) -> float:
    """Return η × lr to four digits, so that a rate written in a TOML file names the same run."""
    return float(f"{math.sqrt(eta_squared) * lr:.4g}")


def config_from(values: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a TOML table or of flags.

    Raises
    ------
    ValueError
        For a key that does not exist (naming the nearest), a value of the wrong type, or a missing
        method.
    """
    names = [field.name for field in fields(RunConfig)]
    for key in values:
        require_known("setting", key, names)
    if "method" not in values:
        raise ValueError('no method is named: add method = "allora", or another of the table')
    values = {k: None if k in SIZES and v == "all" else v for k, v in values.items()}
    for field in fields(RunConfig):
        if field.name in values:
            require_type(field.name, values[field.name], field.type)
    converted = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return RunConfig(**converted)
