"""Which ranks leave and where new ones come: Algorithm 1's step, as a pure function.

ALoRA (arXiv 2403.16187), §3.2 with footnotes 2, 3 and 4: the n_A ranks with the lowest scores are
pruned; n_A new ones are spread evenly over the modules that lost none; what does not divide goes to
those with the higher average score; and the total may end below the start.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from allora_lab.checks import require_at_least


@dataclass(frozen=True)
class Reallocation:
    """What one round does: by module, the places of its ranks that stay, and how many are added."""

    keep: dict[str, tuple[int, ...]]
    added: dict[str, int]


def lowest(scores: Mapping[str, Tensor], n: int) -> set[tuple[str, int]]:
    """Return the n ranks (module, place) with the lowest scores; of equals the first of the model."""
    flat = [
        (score, i, name, k)
        for i, (name, row) in enumerate(scores.items())
        for k, score in enumerate(row.tolist())
    ]
    return {(name, k) for _, _, name, k in sorted(flat, key=lambda e: (e[0], e[1], e[3]))[:n]}


def spread(n: int, averages: Mapping[str, float], room: Mapping[str, int]) -> dict[str, int]:
    """Return n ranks spread over modules: evenly, the rest to the higher averages (footnotes 2, 3).

    The paper's example: 8 ranks over m1 > m2 > m3 are 3, 3 and 2.  A module that has no room left
    passes its share on by the same rule; when none has, the rest is not given (footnote 4).
    """
    given = dict.fromkeys(averages, 0)
    for _ in range(n):  # each to the one that has been given least; of equals the higher average
        open_to = [m for m in averages if given[m] < room[m]]
        if not open_to:
            break
        given[min(open_to, key=lambda m: (given[m], -averages[m]))] += 1
    return given


def reallocate(scores: Mapping[str, Tensor], n: int, capacities: Mapping[str, int]) -> Reallocation:
    """Return which ranks stay and where new ones come, given every rank's score by module.

    A module without a rank has lost none, so it takes part in what is given out, with the lowest
    average: this is how it can come back.  When every module lost a rank nothing is given out.

    Raises
    ------
    ValueError
        If n is below 1 or above the ranks there are, or a score is not finite.
    """
    total = sum(map(len, scores.values()))
    require_at_least("ranks_moved", n, 1)
    if n > total:
        raise ValueError(f"ranks_moved must be at most {total}, the ranks there are, got {n}")
    for name, row in scores.items():
        if not torch.isfinite(row).all():
            raise ValueError(
                f"the scores of {name} are not finite: lower lr, so that the loss stays finite"
            )
    gone = lowest(scores, n)
    losers = {name for name, _ in gone}
    averages = {
        name: row.double().mean().item() if len(row) else -float("inf")
        for name, row in scores.items()
        if name not in losers
    }
    room = {name: capacities[name] - len(scores[name]) for name in averages}
    given = spread(n, averages, room)
    return Reallocation(
        keep={
            name: tuple(k for k in range(len(row)) if (name, k) not in gone)
            for name, row in scores.items()
        },
        added={name: given.get(name, 0) for name in scores},
    )
