"""How much of ALLoRA's taper under SGD is the coefficient's, and how much gradient clipping's.

The recorded SGD runs clip the gradient's norm over all parameters.  Near zero ALLoRA's gradients are
those of LoRA times η, and so are clipped where LoRA's at η × lr are not: that shortens ALLoRA's
steps whatever its coefficient does.  The same runs without clipping have the coefficient alone.
"""

from allora_lab.config import RunConfig, scaled_rate
from allora_lab.experiments.demo import ETA_SQUARED, FOLDER, SETTINGS, escape_config
from allora_lab.experiments.evidence import Evidence, evidence_of
from allora_lab.experiments.findings import norm_at
from allora_lab.experiments.records import read_record, record_path
from allora_lab.experiments.statistics import Estimate, mean_interval
from allora_lab.experiments.tables import SEEDS
from allora_lab.training.optimizers import OPTIMIZERS

STEPS = 96  # without clipping, LoRA at 2 x lr leaves the region where it learns at about step 110
READ_AT = (8, 48, STEPS)
RUNS = {
    f"clipped at a norm of {SETTINGS['sgd']['clip_norm']:g}": {},
    "not clipped": {"steps": STEPS, "clip_norm": None},
}


def clipping_configs(settings: dict[str, int | None], seed: int) -> tuple[RunConfig, RunConfig]:
    """Return ALLoRA at lr and LoRA at η × lr under SGD, with settings of `RUNS`."""
    lr = OPTIMIZERS["sgd"].default_lr
    fast = scaled_rate(lr, ETA_SQUARED)
    ours = escape_config("sgd", method="allora", seed=seed, **settings)
    return ours, escape_config("sgd", method="lora", lr=fast, seed=seed, **settings)


def norm_ratios(settings: dict[str, int | None], step: int) -> list[float]:
    """Return ALLoRA's mean row norm over that of LoRA at η × lr after `step` steps, for each seed.

    Raises
    ------
    FileNotFoundError
        If a run is not recorded: `allora-lab sweep sweeps/escape.toml` makes it.
    """
    ratios = []
    for seed in SEEDS:
        paths = [record_path(FOLDER, config) for config in clipping_configs(settings, seed)]
        if not all(path.exists() for path in paths):
            raise FileNotFoundError(
                f"seed {seed} of SGD is not recorded: allora-lab sweep sweeps/escape.toml makes it"
            )
        ours, theirs = (norm_at(read_record(path), step) for path in paths)
        ratios.append(ours / theirs)
    return ratios


def clipping_table() -> str:
    """Return ALLoRA's row norm over LoRA's at η × lr, with clipping and without, in Markdown.

    Means and 95 % t-intervals over five seeds; raises FileNotFoundError as `norm_ratios`.
    """
    heads = [f"after {step} steps" for step in READ_AT]
    lines = [f"| SGD, gradients | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, settings in RUNS.items():
        found = [mean_interval(norm_ratios(settings, step)) for step in READ_AT]
        lines.append(f"| {name} | {' | '.join(str(Estimate(*each)) for each in found)} |")
    return "\n".join(lines)


def drift_without_clipping() -> Evidence | None:
    """Return the ratio after 96 steps over that after 8, without clipping; None if not recorded."""
    try:
        late, early = (norm_ratios(RUNS["not clipped"], step) for step in (STEPS, READ_AT[0]))
    except FileNotFoundError:
        return None
    what = (
        f"SGD, not clipped: ALLoRA's row norm over LoRA's at η × lr, after {STEPS} steps over "
        f"after {READ_AT[0]} steps"
    )
    return evidence_of(what, [a / b for a, b in zip(late, early, strict=True)])
