"""What a sweep's [[compare]] block says: two sides, and which of their settings make pairs.

[[compare]]
name = "ALLoRA - LoRA at eta x lr"
ours = { method = "allora" }        # every run with these settings
theirs = { method = "lora" }
match = ["peak_lr"]                 # left out: lr and eta_squared agree, where neither side names them
metric = "bleu"                     # left out: accuracy
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from allora_lab.checks import require_kind, require_known
from allora_lab.config import RunConfig, config_from, scaled_rate
from allora_lab.methods import METHODS
from allora_lab.settings import HOOK_SETTINGS

SETTINGS = tuple(field.name for field in fields(RunConfig) if field.name != "seed")
KEYS = ("name", "ours", "theirs", "match", "metric")
METRICS = (
    "accuracy",
    "generated_accuracy",
    "bleu",
    "rouge_l",
    "meteor",
)  # from 0 to 1, more is better
RATES = ("lr", "eta_squared")
QUANTITIES = (*RATES, "peak_lr")


@dataclass(frozen=True)
class Comparison:
    """The runs of `ours` against those of `theirs`.

    A run is on a side when it has all of that side's settings.  `match` names the quantities of
    QUANTITIES that must agree; see `disagreements`.  `metric` is what differs, one of METRICS; it is
    shown in points, that is times 100.
    """

    name: str
    ours: Mapping[str, Any]
    theirs: Mapping[str, Any]
    match: tuple[str, ...]
    metric: str = "accuracy"

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
    metric = block.get("metric", "accuracy")
    require_known(f"metric of comparison {name!r}", metric, METRICS)
    return Comparison(name, ours, theirs, match, metric)


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
