"""What many comparisons find by chance: how many intervals leave out 0, and adjusted p-values."""

from collections.abc import Callable

from allora_lab.config import RunConfig
from allora_lab.experiments.collected import Recorded, interval_text, setting_label
from allora_lab.experiments.statistics import adjusted

LEVEL = 0.05  # an interval of 95 % leaves out 0 where p is below this


def chance_sentence(runs: Recorded, label: Callable[[RunConfig], str] = setting_label) -> str:
    """Say which settings leave out 0, how many would by chance, and their adjusted p-values.

    p is of the paired t-test, adjusted by Benjamini-Hochberg over every comparison of one setting
    that the sweep declares: the q of `allora-lab tables`.  `label` names a setting.
    """
    tested = [
        (comparison.name, group)
        for comparison in runs.sweep.comparisons
        for group in runs.comparison(comparison.name).finished
        if not group.result.is_constant
    ]
    adjusted_p = adjusted([group.result.p_value for _, group in tested])
    found = [
        f"{name.replace('eta x', 'η ×')}, {label(group.ours)}: "
        f"{interval_text(group.result)}, p = {group.result.p_value:.3f}, adjusted {q:.3f}"
        for (name, group), q in zip(tested, adjusted_p, strict=True)
        if group.result.p_value < LEVEL
    ]
    listed = f": {'; '.join(found)}" if found else ""
    return (
        f"Of {len(tested)} comparisons of one setting, {len(found)} leave out 0, where "
        f"{LEVEL * len(tested):.1f} are to be expected if nothing is going on{listed}."
    )
