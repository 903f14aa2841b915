"""Where an adapted layer stands in a model: which block, and which module of it."""

from collections import Counter
from collections.abc import Iterable, Mapping

from torch import nn

from allora_lab.adapters.gated import GatedLinear


def gated_layers(model: nn.Module) -> dict[str, GatedLinear]:
    """Return the layers whose ranks can be moved, by name, in the order of the model.

    Raises ValueError when there is none.
    """
    layers = {n: m for n, m in model.named_modules() if isinstance(m, GatedLinear)}
    if not layers:
        raise ValueError(
            "this model has no gated layers, whose ranks could be moved: adapt it with "
            "inject_adapters and a method such as 'alora-ablation'"
        )
    return layers


def place_of(name: str) -> tuple[int, str]:
    """Return the block's number and the module's name in it.

    The first part of the name that is a number is the block: `encoder.layer.3.attention.self.query`
    is module `attention.self.query` of block 3.  A name without one is of block 0.
    """
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part.isdigit():
            return int(part), ".".join(parts[i + 1 :]) or part
    return 0, name


def modules_per_block(names: Iterable[str]) -> int:
    """Return N_mod: how many adapted modules the fullest block has.

    Modules beside the blocks, as BERT's pooler, are counted only where there is no block.
    """
    every = list(names)
    inside = [name for name in every if any(part.isdigit() for part in name.split("."))]
    return max(Counter(place_of(name)[0] for name in inside or every).values())


def blocks(names: Iterable[str]) -> int:
    """Return how many blocks have an adapted module."""
    return len({place_of(name)[0] for name in names})


def capacity(layer: GatedLinear) -> int:
    """Return the most ranks a layer can use, the smaller side of its weight."""
    return min(layer.lora_A.shape[1], layer.lora_B.shape[0])


def ranks_by_module(layers: Mapping[str, GatedLinear]) -> dict[str, int]:
    """Return the ranks each layer has now."""
    return {name: layer.r for name, layer in layers.items()}


def starting_ranks(capacities: Mapping[str, int], budget: int) -> dict[str, int]:
    """Return `budget` ranks spread evenly over the modules, the rest from the first modules on.

    A remainder goes to the first module of every block, then to the second of every block, and so
    on; a module that is full passes its share on.

    Raises
    ------
    ValueError
        If the budget is below one rank a block, or above what the layers can hold.
    """
    least, most = blocks(capacities), sum(capacities.values())
    if not least <= budget <= most:
        raise ValueError(
            f"rank_budget must be at least {least}, one rank a block, and at most {most}, what these "
            f"layers can hold, got {budget}"
        )
    seen: dict[int, int] = {}
    turn = {}
    for name in capacities:
        block, _ = place_of(name)
        turn[name] = seen.get(block, 0)
        seen[block] = turn[name] + 1
    order = sorted(capacities, key=lambda name: (turn[name], place_of(name)[0]))
    ranks = dict.fromkeys(capacities, 0)
    left = budget
    while left:
        open_to = [name for name in order if ranks[name] < capacities[name]]
        share = max(1, left // len(open_to))
        for name in open_to:
            given = min(share, capacities[name] - ranks[name], left)
            ranks[name] += given
            left -= given
    return ranks
