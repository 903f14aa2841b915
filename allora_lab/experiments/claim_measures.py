"""What a claim's evidence may name: every measure by its name, and the pooled comparison of a sweep.

{ measure = "row-norms", of = { optimizer = "sgd", method = "allora", part = "early", against = "lr" } }
{ sweep = "perception", compare = "ALLoRA - LoRA at eta x lr", where = { optimizer = "sgd" } }
"""

import inspect
from collections.abc import Callable
from typing import Any

from allora_lab.checks import require_known
from allora_lab.experiments import (
    allocation_cost,
    claim_evidence,
    claim_flaws,
    claim_ranks,
    claim_sweeps,
    cost,
)
from allora_lab.experiments.evidence import Evidence

MEASURES: dict[str, Callable[..., Evidence | None]] = {
    **claim_evidence.MEASURES,
    **claim_sweeps.MEASURES,
    **claim_flaws.MEASURES,
    **cost.MEASURES,
    **allocation_cost.MEASURES,
    **claim_ranks.MEASURES,
}


def require_measure(name: str, item: dict[str, Any]) -> None:
    """Raise ValueError unless a piece of evidence names one measure or comparison, with its arguments."""
    if ("measure" in item) == ("sweep" in item) or ("sweep" in item) != ("compare" in item):
        raise ValueError(
            f"evidence of {name} must have either measure, or sweep and compare; got {item}"
        )
    kind, other = ("of", "where") if "measure" in item else ("where", "of")
    if other in item:
        raise ValueError(f"evidence of {name} has {other}, where {kind} belongs: rename it")
    if "measure" in item:
        require_known(f"measure of {name}", item["measure"], MEASURES)
        arguments = inspect.signature(MEASURES[item["measure"]]).parameters
        for key in item.get("of", {}):
            require_known(f"argument of {item['measure']} of {name}", key, arguments)
        missing = [
            key
            for key, argument in arguments.items()
            if argument.default is argument.empty and key not in item.get("of", {})
        ]
        if missing:
            raise ValueError(f"{item['measure']} of {name} lacks {', '.join(missing)}: add to of")


def measured(item: dict[str, Any]) -> Evidence | None:
    """Return what a piece of evidence measures; None until all of its runs are recorded."""
    if "measure" in item:
        return MEASURES[item["measure"]](**item.get("of", {}))
    return claim_sweeps.pooled_evidence(item["sweep"], item["compare"], item.get("where", {}))


def name_of(item: dict[str, Any]) -> str:
    """Return what a piece of evidence is called while it is not recorded."""
    given = item.get("of", {}) or item.get("where", {})
    words = item.get("measure") or f"{item['sweep']}: {item['compare']}"
    return ", ".join([words, *(f"{key} {value}" for key, value in given.items())])
