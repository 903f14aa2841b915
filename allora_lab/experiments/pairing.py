"""Which settings of a sweep a comparison pairs, and why two do not make a pair."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from allora_lab.config import RunConfig
from allora_lab.experiments.comparison_config import (
    RATES,
    SETTINGS,
    Comparison,
    peak_lr,
)
from allora_lab.methods import get_method
from allora_lab.settings import HOOK_SETTINGS


def by_setting(configs: Iterable[RunConfig]) -> dict[RunConfig, dict[int, RunConfig]]:
    """Return the runs of each setting by seed; a setting stands as its run of seed 0 would."""
    settings: dict[RunConfig, dict[int, RunConfig]] = defaultdict(dict)
    for config in configs:
        settings[config.without_seed()][config.seed] = config
    return dict(settings)


def disagreements(ours: RunConfig, theirs: RunConfig, comparison: Comparison) -> list[str]:
    """Return in what two settings differ that the comparison does not allow; none make a pair.

    Every setting must be equal but the seed, those a side names, lr and eta_squared.  Of these two
    and of the peak rate, those in `match` must agree; eta_squared agrees with that of a method that
    reads none, and so does a setting of moving ranks.  A lora_dropout that is its method's own agrees with another method's own, so that
    `allora-dropout` and `lora` pair as they come; any other must be equal.
    """
    wrong = [
        name
        for name in SETTINGS
        if name not in (*RATES, *comparison.named)
        and _is_read(ours, name)
        and _is_read(theirs, name)
        and _as_compared(ours, name) != _as_compared(theirs, name)
    ]
    for key in comparison.match:
        values = {_quantity(ours, key), _quantity(theirs, key)} - {None}
        if len(values) > 1:
            wrong.append(key)
    return wrong


def _is_read(setting: RunConfig, name: str) -> bool:
    """Return whether a setting's method reads the setting `name`; those of moving ranks few do."""
    return name not in HOOK_SETTINGS or name in get_method(setting.method).hook_settings


def _as_compared(setting: RunConfig, name: str) -> Any:
    value = getattr(setting, name)
    if name == "lora_dropout" and value == get_method(setting.method).lora_dropout:
        return "the method's own"
    return value


def _quantity(setting: RunConfig, key: str) -> float | None:
    return peak_lr(setting) if key == "peak_lr" else getattr(setting, key)


def paired_settings(
    comparison: Comparison, configs: Iterable[RunConfig]
) -> list[tuple[RunConfig, RunConfig]]:
    """Return the settings of a sweep that a comparison pairs, ours first.

    Several settings of one side may share a partner, as ALLoRA at each η² shares LoRA at lr, but
    not when the partner has several too, nor when they differ in a setting that only the other
    side names.

    Raises
    ------
    ValueError
        If nothing pairs, saying in what the nearest settings differ, or if it is ambiguous which
        settings pair, saying which to name.
    """
    runs = by_setting(configs)
    ours, theirs = (
        [setting for setting in runs if _has(setting, side)]
        for side in (comparison.ours, comparison.theirs)
    )
    pairs = [
        (a, b)
        for a in ours
        for b in theirs
        if runs[a].keys() & runs[b].keys() and not disagreements(a, b, comparison)
    ]
    if not pairs:
        raise ValueError(f"comparison {comparison.name!r}: {_why_none(comparison, ours, theirs)}")
    _require_unambiguous(comparison, pairs)
    return pairs


def _has(setting: RunConfig, values: Mapping[str, Any]) -> bool:
    """Return whether giving a setting these values leaves it as it is."""
    try:
        return setting.with_changes(**values) == setting
    except ValueError:  # its method does not take one of them
        return False


def _why_none(
    comparison: Comparison, ours: Sequence[RunConfig], theirs: Sequence[RunConfig]
) -> str:
    for side, values in (("ours", comparison.ours), ("theirs", comparison.theirs)):
        if not (ours if side == "ours" else theirs):
            given = ", ".join(f"{key} = {value!r}" for key, value in values.items())
            return f"no run of the sweep has the settings of {side} ({given}): add such runs"
    nearest = min((disagreements(a, b, comparison) for a in ours for b in theirs), key=len)
    return (
        f"no run of ours pairs with one of theirs; the nearest differ in "
        f"{', '.join(nearest) or 'seed'}: "
        "name it in ours and theirs, or add runs that agree"
    )


def _require_unambiguous(
    comparison: Comparison, pairs: Sequence[tuple[RunConfig, RunConfig]]
) -> None:
    of_ours, of_theirs = defaultdict(list), defaultdict(list)
    for a, b in pairs:
        of_ours[a].append(b)
        of_theirs[b].append(a)
    for a, b in pairs:
        varying = {*_varying(of_ours[a]), *_varying(of_theirs[b])}
        if len(of_ours[a]) == 1 or len(of_theirs[b]) == 1:
            varying &= comparison.named
        if varying:
            names = ", ".join(sorted(varying))
            raise ValueError(
                f"comparison {comparison.name!r} is ambiguous: a setting has several partners, "
                f"which differ in {names}: give {names} a value in ours and in theirs"
                + (", or add it to match" if varying <= set(RATES) else "")
            )


def _varying(settings: Sequence[RunConfig]) -> list[str]:
    return [name for name in SETTINGS if len({getattr(s, name) for s in settings}) > 1]
