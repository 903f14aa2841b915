"""What a sweep's [[compare]] block says: two sides, and which of their settings make pairs.

[[compare]]
name = "ALLoRA - LoRA at eta x lr"
ours = { method = "allora" }        # every run with these settings
theirs = { method = "lora" }
match = ["peak_lr"]                 # left out: lr and eta_squared agree, where neither side names them
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from allora_lab.checks import require_kind, require_known
from allora_lab.config import HOOK_COUNTS, HOOK_RATES, RunConfig, config_from, scaled_rate
from allora_lab.methods import METHODS, get_method

SETTINGS = tuple(field.name for field in fields(RunConfig) if field.name != "seed")
KEYS = ("name", "ours", "theirs", "match")
RATES = ("lr", "eta_squared")
QUANTITIES = (*RATES, "peak_lr")
HOOK_SETTINGS = (*HOOK_COUNTS, *HOOK_RATES)


@dataclass(frozen=True)
class Comparison:
    """The runs of `ours` against those of `theirs`.

    A run is on a side when it has all of that side's settings.  `match` names the quantities of
    QUANTITIES that must agree; see `disagreements`.
    """

    name: str
    ours: Mapping[str, Any]
    theirs: Mapping[str, Any]
    match: tuple[str, ...]

    @property
    def named(self) -> frozenset[str]:
        """Return the settings that a side names, in which the two may therefore differ."""
        return frozenset({*self.ours, *self.theirs})


def peak_lr(config: RunConfig) -> float:
    """Return the rate at which rows of BA of length 0 move: η × lr where η scales a rate, else lr.

    1/√(‖(BA)_i‖ + 1/η²), the coefficient of ALLoRA (§4.2), is η at length 0 and falls from there.
    To four digits, as `config.scaled_rate`.
    """
    is_scaled = METHODS[config.method].scales_rate and config.eta_squared is not None
    return scaled_rate(config.lr, config.eta_squared if is_scaled else 1.0)


def comparisons_from(blocks: Sequence[Any]) -> tuple[Comparison, ...]:
    """Return the comparisons that the [[compare]] blocks of a sweep declare, in their order.

    Raises
    ------
    ValueError
        For a key or setting that does not exist (naming the nearest), a value no run can have, two
        comparisons of one name, or sides that a run could be on both of.
    """
    require_kind("compare", blocks, list, "written as [[compare]]")
    comparisons = tuple(_comparison(block) for block in blocks)
    names = [comparison.name for comparison in comparisons]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two comparisons are named {name!r}: give each its own name")
    return comparisons


def _comparison(block: Any) -> Comparison:
    require_kind("compare", block, dict, "written as [[compare]]")
    for key in block:
        require_known("key of a comparison", key, KEYS)
    for key in ("name", "ours", "theirs"):
        if key not in block:
            raise ValueError(f"a comparison has no {key}: add {key} = ... under [[compare]]")
    name = block["name"]
    require_kind("name of a comparison", name, str, "text")
    ours, theirs = (_side(name, key, block[key]) for key in ("ours", "theirs"))
    if all(ours[key] == theirs[key] for key in ours.keys() & theirs.keys()):
        raise ValueError(
            f"comparison {name!r}: a run could be on both sides: give one setting, such as method, "
            "another value in ours than in theirs"
        )
    match = _match(name, block.get("match", []), {*ours, *theirs})
    return Comparison(name, ours, theirs, match)


def _side(name: str, side: str, values: Any) -> dict[str, Any]:
    """Return a side's settings, checked as those of a run are."""
    where = f"{side} of comparison {name!r}"
    require_kind(where, values, dict, 'a table such as { method = "lora" }')
    if not values:
        raise ValueError(f'{where} is empty: name at least one setting, such as method = "lora"')
    for key in values:
        require_known(f"setting in {where}", key, [field.name for field in fields(RunConfig)])
    if "seed" in values:
        raise ValueError(f"{where} names seed: runs are paired by seed, leave it out")
    try:
        config_from({"method": _any_method(values), **values})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _any_method(values: Mapping[str, Any]) -> str:
    """Return a method that reads what a side sets, to check the values of one that names none."""
    for method in METHODS.values():
        unread = {
            *(() if method.reads_eta_squared else ("eta_squared",)),
            *(() if method.reads_lora_alpha else ("lora_alpha",)),
            *(set(HOOK_SETTINGS) - set(method.hook_settings)),
        }
        if not unread & values.keys():
            return method.key
    raise ValueError(f"no method reads all of {', '.join(values)}: name fewer of them")


def _match(name: str, match: Any, named: set[str]) -> tuple[str, ...]:
    require_kind(f"match of comparison {name!r}", match, list, 'a list such as ["peak_lr"]')
    for key in match:
        require_known(f"quantity in match of comparison {name!r}", key, QUANTITIES)
        if key in named:
            raise ValueError(
                f"comparison {name!r}: {key} stands in match and in a side: leave one of them out"
            )
    return tuple(match) or tuple(key for key in RATES if key not in named)


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
