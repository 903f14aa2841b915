"""What the sweep `flaws` says of claims: dropout's noise beside mini-batch noise, and B's escape."""

from collections.abc import Callable
from functools import partial
from statistics import fmean

from allora_lab.checks import require_known
from allora_lab.experiments.collected import Recorded, read_recorded
from allora_lab.experiments.evidence import Evidence, evidence_of
from allora_lab.experiments.flaws import SWEEP, masks_over_batches
from allora_lab.experiments.records import RunRecord

STRONG, WEAK = 0.4, 0.05
WHEN = {"start": 0, "end": -1}  # which evaluation of a run


def _complete() -> Recorded | None:
    """Return the sweep's records, or None while one is missing."""
    collected = read_recorded(SWEEP)
    return collected if len(collected.records) == len(collected.sweep.configs) else None


def noise_over_batches(dropout: float, when: str) -> Evidence | None:
    """Return the noise of B's gradient over dropout masks, over its noise over mini-batches."""
    require_known("time of a run", when, WHEN)
    collected = _complete()
    if collected is None:
        return None
    runs = collected.where(lora_dropout=dropout)
    what = f"noise of B's gradient over masks of dropout {dropout:g}, over that of batches of 8, at the {when}"
    return evidence_of(what, [masks_over_batches(run)[WHEN[when]] for run in runs])


def _rows_of_update(run: RunRecord, at: int) -> float:
    return run.trace["row_norm_mean"][run.trace["step"].index(at)]


def _norm_of(factor: str, run: RunRecord, at: int) -> float:
    """Return ||A|| or ||B|| after `at` steps, the mean over layers."""
    place = run.trace["step"].index(at)
    return fmean(values[f"norm_{factor}"][place] for values in run.trace["layers"].values())


LENGTHS: dict[str, Callable[[RunRecord, int], float]] = {
    "row norm of BA": _rows_of_update,
    "‖A‖": partial(_norm_of, "A"),
    "‖B‖": partial(_norm_of, "B"),
}


def _left(length: str, at: int) -> list[float] | None:
    """Return, by seed, a length after `at` steps with STRONG dropout over that with WEAK."""
    require_known("length", length, LENGTHS)
    collected, of_run = _complete(), LENGTHS[length]
    if collected is None:
        return None
    pairs = zip(*(collected.where(lora_dropout=p) for p in (STRONG, WEAK)), strict=True)
    return [of_run(strong, at) / of_run(weak, at) for strong, weak in pairs]


def left_under_dropout(length: str, after: int) -> Evidence | None:
    """Return what dropout STRONG leaves of a length of LENGTHS after some steps, over WEAK."""
    found = _left(length, after)
    what = f"{length} after {after} steps with dropout {STRONG:g}, over that with {WEAK:g}"
    return None if found is None else evidence_of(what, found)


def left_of_b_over_a(after: int) -> Evidence | None:
    """Return what dropout STRONG leaves of ||B||, over what it leaves of ||A||."""
    b, a = _left("‖B‖", after), _left("‖A‖", after)
    if a is None or b is None:
        return None
    what = f"what dropout {STRONG:g} leaves of ‖B‖ after {after} steps compared with {WEAK:g}, over what it leaves of ‖A‖"
    return evidence_of(what, [x / y for x, y in zip(b, a, strict=True)])


MEASURES: dict[str, Callable[..., Evidence | None]] = {
    "noise-over-batches": noise_over_batches,
    "left-under-dropout": left_under_dropout,
    "left-of-b-over-a": left_of_b_over_a,
}
