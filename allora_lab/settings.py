"""The settings of a run: a field each, with its default, its range, its help and its group.

The configuration checks them, and the command line makes a flag of each.  This module imports
nothing heavy, so that `allora-lab run --help` is instant.
"""

from dataclasses import MISSING, dataclass, field, fields
from typing import Any, get_args

from allora_lab.checks import require_at_least, require_at_most, require_known, require_positive

GROUPS = ("model and data", "method", "optimization", "rank allocation", "evaluation")
DATA, METHOD, OPTIMIZATION, RANKS, EVALUATION = GROUPS
LARGEST_COUNT = 10**9
LARGEST_SEED = 2**32 - 1  # a seed times 1,000,003 plus a step must be below 2**64
SIZES = ("train_size", "eval_size")  # "all" in a TOML file, which has no None


def _text(default: Any, group: str, words: str, *, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"group": group, "help": words, "choices": choices})


def _count(default: Any, group: str, words: str, least: int = 1, most: int = LARGEST_COUNT) -> Any:
    return field(
        default=default, metadata={"group": group, "help": words, "least": least, "most": most}
    )


def _rate(default: Any, group: str, words: str) -> Any:
    """Return a field for a finite number above 0."""
    return field(default=default, metadata={"group": group, "help": words, "is_positive": True})


def _other(default: Any, group: str, words: str) -> Any:
    return field(default=default, metadata={"group": group, "help": words})


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What a run can be told; `config.RunConfig` checks the values and names the run."""

    method: str = _text(MISSING, METHOD, "a key of the table of methods, such as lora or allora")
    model: str = _text(
        "minilm", DATA, "minilm, tinystories-656k, a folder of a model, or a hub id org/name"
    )
    dataset: str = _text(
        "rotten_tomatoes_rated", DATA, "a key of the list that `allora-lab data` prints, or a file"
    )
    r: int = _count(8, METHOD, "rank of every update", most=65_536)
    lora_alpha: float | None = _rate(
        None, METHOD, "α of LoRA, rsLoRA and DoRA (not given: r, so that LoRA's scaling is 1)"
    )
    lora_dropout: float | None = _other(
        None, METHOD, "dropout on the input of A, from 0 to below 1 (not given: the method's own)"
    )
    eta_squared: float | None = _rate(
        None, METHOD, "η² of the ALLoRA family (not given: 4; refused by methods without it)"
    )
    target_modules: tuple[str, ...] | str = _other(
        ("query", "value"), METHOD, "layers to adapt: names, one regular expression, or all-linear"
    )
    optimizer: str = _text(
        "adamw", OPTIMIZATION, "the optimizer", choices=("sgd", "adamw", "adafactor")
    )
    lr: float | None = _rate(
        None, OPTIMIZATION, "learning rate of the adapters (not given: the optimizer's own)"
    )
    head_lr: float | None = _rate(
        None, OPTIMIZATION, "learning rate of the new head (not given: the optimizer's own)"
    )
    weight_decay: float = _other(0.0, OPTIMIZATION, "decoupled weight decay, at least 0")
    schedule: str = _text(
        "constant",
        OPTIMIZATION,
        "of the rate after the warm-up",
        choices=("constant", "linear", "cosine"),
    )
    warmup_steps: int = _count(0, OPTIMIZATION, "steps over which the rate rises linearly", least=0)
    clip_norm: float | None = _rate(
        None, OPTIMIZATION, "largest norm of the gradient (not given: no clipping)"
    )
    batch_size: int = _count(16, OPTIMIZATION, "sentences in a batch", most=1_000_000)
    gradient_accumulation_steps: int = _count(
        1, OPTIMIZATION, "batches whose gradients are averaged in each step", most=1_000_000
    )
    steps: int = _count(96, OPTIMIZATION, "optimizer steps")
    train_size: int | None = _count(4096, DATA, "training sentences, the first of the split")
    eval_size: int | None = _count(512, EVALUATION, "evaluation sentences, the first of the split")
    eval_split: str = _text(
        "dev", EVALUATION, "dev for choosing settings, test for reporting", choices=("dev", "test")
    )
    eval_every: int | None = _count(
        None,
        EVALUATION,
        "steps between evaluations, the first before training (not given: one, at the end)",
    )
    gradient_draws: int | None = _count(
        None,
        EVALUATION,
        "masks, and batches, over which each evaluation measures the spread of the adapters' gradient",
        least=2,
        most=1_000_000,
    )
    max_length: int = _count(128, DATA, "tokens that a sentence is cut at", most=1_000_000)
    length_pool: int = _count(
        16, DATA, "batches that are sorted by length together: more means less padding, less mixing"
    )
    base_dropout: bool = _other(
        False, METHOD, "keep the pretrained model's own dropout, a second source of noise"
    )
    rank_budget: int | None = _count(
        None,
        RANKS,
        "ranks of the whole model (not given: r in every module; AdaLoRA: half of that)",
    )
    ranks_moved: int | None = _count(
        None, RANKS, "ranks that move in a round (not given: one for each module)"
    )
    rounds: int | None = _count(None, RANKS, "rounds at most (not given: 8)")
    first_round: int | None = _count(
        None, RANKS, "step of the first round (not given: one epoch, or what fits the run)"
    )
    round_every: int | None = _count(
        None, RANKS, "steps between rounds (not given: a quarter of an epoch)"
    )
    score_size: int | None = _count(
        None, RANKS, "sentences that score the ranks, the last of dev (not given: 32)"
    )
    copies: int | None = _count(
        None,
        RANKS,
        "masks that are scored in one batch (not given: 2); 0 scores each by a pass of its own",
        least=0,
        most=65_536,
    )
    gate_penalty: float | None = _rate(None, RANKS, "SoRA's λ (not given: 10)")
    gate_threshold: float | None = _rate(None, RANKS, "SoRA's ξ (not given: 0.0003)")
    gate_lr: float | None = _rate(
        None, RANKS, "learning rate of ALoRA-DNAS's gates (not given: lr)"
    )
    orthogonality: float | None = _rate(None, RANKS, "AdaLoRA's γ (not given: 0.1)")
    dtype: str = _text(
        "float32",
        OPTIMIZATION,
        "of the pretrained weights; what trains is float32",
        choices=("float32", "bfloat16"),
    )
    compile: bool = _other(False, OPTIMIZATION, "build the model with torch.compile")
    gradient_checkpointing: bool = _other(
        False,
        OPTIMIZATION,
        "compute activations again in the backward pass: less memory, more time",
    )
    seed: int = _count(
        0,
        OPTIMIZATION,
        "of the head, of A, of the batches and of the dropout masks",
        least=0,
        most=LARGEST_SEED,
    )


def require_in_range(name: str, value: Any) -> None:
    """Raise ValueError unless a setting's value is among its choices and within its limits."""
    (limits,) = (f.metadata for f in fields(RunSettings) if f.name == name)
    if limits.get("choices"):
        require_known(name, value, limits["choices"])
    if "least" in limits:
        require_at_least(name, value, limits["least"])
        require_at_most(name, value, limits["most"])
    if limits.get("is_positive"):
        require_positive(name, value)


HOOK_SETTINGS = tuple(f.name for f in fields(RunSettings) if f.metadata["group"] == RANKS)


def kind_of(declared: Any) -> Any:
    """Return the type of a setting that is given: float of `float | None`."""
    return (get_args(declared) or (declared,))[0]


def attributes_section() -> str:
    """Return the Attributes section of a docstring: each setting with its help."""
    lines = [
        f"{f.name}\n    {f.metadata['help'][0].upper()}{f.metadata['help'][1:]}."
        for f in fields(RunSettings)
    ]
    return "\n".join(("\n\nAttributes\n----------", *lines, ""))
