"""What the sweep `flaws` says of claims: dropout's noise beside the batches', and B's escape."""

from collections.abc import Callable
from functools import partial
from statistics import fmean

from allora_lab.experiments.claim_rules import Evidence, evidence_of
from allora_lab.experiments.collected import Recorded, read_recorded
from allora_lab.experiments.flaws import SWEEP, masks_over_batches
from allora_lab.experiments.records import RunRecord

STRONG, WEAK = 0.4, 0.05


def _complete() -> Recorded | None:
    """Return the sweep's records, or None while one is missing."""
    collected = read_recorded(SWEEP)
    return collected if len(collected.records) == len(collected.sweep.configs) else None


def _noise(dropout: float, at: int) -> Evidence | None:
    collected = _complete()
    if collected is None:
        return None
    runs = collected.where(lora_dropout=dropout)
    when = "at the start" if at == 0 else "at the end"
    what = f"noise of B's gradient over masks of dropout {dropout:g}, over that of batches of 8, {when}"
    return evidence_of(what, [masks_over_batches(run)[at] for run in runs])


def _rows_of_update(run: RunRecord, at: int) -> float:
    return run.trace["row_norm_mean"][run.trace["step"].index(at)]


def _norm_of(factor: str, run: RunRecord, at: int) -> float:
    """Return ||A|| or ||B|| after `at` steps, the mean over layers."""
    place = run.trace["step"].index(at)
    return fmean(values[f"norm_{factor}"][place] for values in run.trace["layers"].values())


def _shrunk(name: str, of_run: Callable[[RunRecord, int], float], at: int) -> Evidence | None:
    """Return a length after `at` steps with STRONG dropout over that with WEAK, by seed."""
    collected = _complete()
    if collected is None:
        return None
    pairs = zip(*(collected.where(lora_dropout=p) for p in (STRONG, WEAK)), strict=True)
    what = f"{name} after {at} steps with dropout {STRONG:g}, over that with {WEAK:g}"
    return evidence_of(what, [of_run(strong, at) / of_run(weak, at) for strong, weak in pairs])


def _asymmetry(at: int) -> Evidence | None:
    """Return how much more of B than of A is left under STRONG dropout, beside WEAK, by seed."""
    collected = _complete()
    if collected is None:
        return None
    ratios = [
        _norm_of("B", strong, at)
        / _norm_of("B", weak, at)
        / (_norm_of("A", strong, at) / _norm_of("A", weak, at))
        for strong, weak in zip(
            *(collected.where(lora_dropout=p) for p in (STRONG, WEAK)), strict=True
        )
    ]
    what = f"what dropout {STRONG:g} leaves of ‖B‖ after {at} steps beside {WEAK:g}, over what it leaves of ‖A‖"
    return evidence_of(what, ratios)


FLAWS_EVIDENCE: dict[str, Callable[[], Evidence | None]] = {
    **{
        f"dropout-{p:g}-noise-over-batches-{when}": partial(_noise, p, at)
        for p in (WEAK, STRONG)
        for when, at in (("start", 0), ("end", -1))
    },
    **{
        f"dropout-0.4-{name}-{when}": partial(_shrunk, label, of_run, at)
        for name, label, of_run in (
            ("escape", "row norm of BA", _rows_of_update),
            ("norm-of-B", "‖B‖", partial(_norm_of, "B")),
            ("norm-of-A", "‖A‖", partial(_norm_of, "A")),
        )
        for when, at in (("early", 8), ("late", 128))
    },
    "dropout-0.4-B-beside-A": partial(_asymmetry, 128),
}
