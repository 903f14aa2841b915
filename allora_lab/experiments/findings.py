"""What the escape runs show, in sentences computed from their numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from allora_lab.config import scaled_rate
from allora_lab.experiments.records import RunRecord

EARLY = 8  # steps after which "the start" is read
CLOSE = 0.25  # two curves within 25 % follow each other


@dataclass(frozen=True)
class Comparison:
    """Mean row norms of one run over another's: after 8 steps and at the end."""

    early: float
    late: float


def norm_at(record: RunRecord, step: int) -> float:
    """Return the mean row norm after `step` optimizer steps."""
    return record.trace["row_norm_mean"][record.trace["step"].index(step)]


def compare(record: RunRecord, other: RunRecord) -> Comparison:
    """Return the ratio of two runs' mean row norms, early and late."""
    last = record.trace["step"][-1]
    return Comparison(
        norm_at(record, EARLY) / norm_at(other, EARLY),
        norm_at(record, last) / norm_at(other, last),
    )


def find(records: Sequence[RunRecord], *, method: str, optimizer: str, lr: float) -> RunRecord:
    """Return the record of a method, optimizer and rate; ValueError when there is none."""
    for record in records:
        config = record.config
        if (config["method"], config["optimizer"], config["lr"]) == (method, optimizer, lr):
            return record
    raise ValueError(f"no record of {method} under {optimizer} at lr {lr:g}: run the demo first")


def sentence(name: str, optimizer: str, record: RunRecord, slow: RunRecord, fast: RunRecord) -> str:
    """Say which LoRA a run follows at the start, slow (at lr) or fast (at η x lr), and what then."""
    to_slow, to_fast = compare(record, slow), compare(record, fast)
    is_slow = abs(math.log(to_slow.early)) < abs(math.log(to_fast.early))
    nearest = to_slow if is_slow else to_fast
    rate = "lr" if is_slow else "eta x lr"
    verb = "follows" if abs(math.log(nearest.early)) < math.log1p(CLOSE) else "is nearest to"
    drift = nearest.late / nearest.early
    then = "keeps pace with it"
    if drift < 1 - 0.05:
        then = "then tapers off"
    elif drift > 1 + 0.05:
        then = "then pulls ahead of it"
    return (
        f"Under {optimizer}, {name} {verb} LoRA at {rate}: after {EARLY} steps its rows are "
        f"{to_slow.early:.2f} times as long as LoRA's at lr and {to_fast.early:.2f} times as long "
        f"as LoRA's at eta x lr; it {then} ({nearest.late:.2f} times after "
        f"{record.trace['step'][-1]} steps)."
    )


def sentences(records: Sequence[RunRecord], lrs: dict[str, float], eta_squared: float) -> list[str]:
    """Return the three sentences of the demo: ALLoRA under SGD and AdamW, and `allora-update`."""

    def about(name: str, method: str, optimizer: str, label: str) -> str:
        lr = lrs[optimizer]
        pick = {"optimizer": optimizer}
        return sentence(
            name,
            label,
            find(records, method=method, lr=lr, **pick),
            find(records, method="lora", lr=lr, **pick),
            find(records, method="lora", lr=scaled_rate(lr, eta_squared), **pick),
        )

    return [
        about("ALLoRA", "allora", "sgd", "SGD"),
        about("ALLoRA", "allora", "adamw", "AdamW"),
        about("allora-update (ours, not the paper's)", "allora-update", "adamw", "AdamW"),
    ]
