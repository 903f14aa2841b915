"""What the sweep `flaws` says of claims: dropout's noise beside the batches', and B's escape."""

from collections.abc import Callable
from functools import partial

from allora_lab.experiments.claim_rules import Evidence, evidence_of
from allora_lab.experiments.collected import Recorded, read_recorded
from allora_lab.experiments.flaws import SWEEP, masks_over_batches

STRONG, WEAK = 0.4, 0.05


def _complete() -> Recorded | None:
    """Return the sweep's records, or None while one is missing."""
    collected = read_recorded(SWEEP)
    return collected if len(collected.records) == len(collected.sweep.configs) else None


def _noise(dropout: float) -> Evidence | None:
    collected = _complete()
    if collected is None:
        return None
    runs = collected.where(lora_dropout=dropout)
    what = f"noise of B's gradient over masks of dropout {dropout:g}, over that of batches of 8"
    return evidence_of(what, [masks_over_batches(run)[-1] for run in runs])


def _escape(at: int) -> Evidence | None:
    collected = _complete()
    if collected is None:
        return None
    strong, weak = (
        {
            run.config["seed"]: run.trace["row_norm_mean"][run.trace["step"].index(at)]
            for run in collected.where(lora_dropout=dropout)
        }
        for dropout in (STRONG, WEAK)
    )
    what = f"row norm after {at} steps with dropout {STRONG:g}, over that with {WEAK:g}"
    return evidence_of(what, [strong[seed] / weak[seed] for seed in strong])


FLAWS_EVIDENCE: dict[str, Callable[[], Evidence | None]] = {
    **{f"dropout-{p:g}-noise-over-batches": partial(_noise, p) for p in (WEAK, STRONG)},
    "dropout-0.4-escape-early": partial(_escape, 8),
    "dropout-0.4-escape-late": partial(_escape, 128),
}
