"""Algorithm 1 of ALoRA (arXiv 2403.16187, §3.2), with any rule that scores ranks.

Train the network of all ranks K1 steps; then at most N_A times: score every rank, prune the n_A
lowest, give n_A new ones to the modules that lost none, train K2 steps.  The learning-rate schedule
and the optimizer run on; what the paper calls a super-network is the one model there is.
"""

from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from allora_lab.allocation.hook import TrainingHook
from allora_lab.allocation.places import (
    capacity,
    gated_layers,
    modules_per_block,
    ranks_by_module,
    starting_ranks,
)
from allora_lab.allocation.reallocate import reallocate
from allora_lab.allocation.resize import resize_ranks, set_ranks
from allora_lab.allocation.scores import RankScore
from allora_lab.allocation.settings import HookContext
from allora_lab.checks import require_at_least

NORMS_A_ROUND = 4  # how often in K2 steps the norms of old and new ranks are kept


class Allocator(TrainingHook):
    """Moves ranks between the gated layers of a model as Algorithm 1 does.

    Parameters
    ----------
    context
        The model, its optimizer and the settings.
    score
        The rule that scores ranks, built from the context.

    Raises
    ------
    ValueError
        If the budget is below one rank a block or above what the layers can hold, n_A is below 1 or
        above the ranks there are, or K1, K2 or N_A is below 1.
    """

    def __init__(self, context: HookContext, score: Callable[[HookContext], RankScore]) -> None:
        self.settings, self.steps, self.seed = context.settings, context.steps, context.seed
        self.optimizer, self.layers = context.optimizer, gated_layers(context.model)
        for name in ("first_round", "round_every", "rounds"):
            require_at_least(name, getattr(self.settings, name), 1)
        self.score = score(context)
        self.optimizers = (self.optimizer, *self.score.optimizers)
        ranks = ranks_by_module(self.layers)
        if self.settings.rank_budget is not None:
            ranks = starting_ranks(self.capacities(), self.settings.rank_budget)
        moved, total = self.settings.ranks_moved, sum(ranks.values())
        self.ranks_moved = modules_per_block(self.layers) if moved is None else moved
        if not 1 <= self.ranks_moved <= total:
            raise ValueError(
                f"ranks_moved must be at least 1 and at most {total}, the ranks there are, got "
                f"{self.ranks_moved}"
            )
        set_ranks(self.layers, ranks, self.optimizers, self.seed)  # all is well: now change it
        self.rounds_done = 0
        self.born = {name: [0] * layer.r for name, layer in self.layers.items()}

    def capacities(self) -> dict[str, int]:
        """Return the most ranks each layer can use."""
        return {name: capacity(layer) for name, layer in self.layers.items()}

    def after_backward(self) -> None:
        """Let the score see the gradients."""
        self.score.after_backward()

    def is_due(self, done: int) -> bool:
        """Return whether a round comes after `done` steps: at K1, K1 + K2, K1 + 2 K2, ...

        None comes after the last step, for nothing would train what it gives out.
        """
        since = done - self.settings.first_round
        due = since >= 0 and since % self.settings.round_every == 0
        return due and self.rounds_done < self.settings.rounds and done < self.steps

    def norms_by_birth(self) -> list[float | None]:
        """Return the mean ||s B_k A_k|| of the ranks born in each round, from 0, the start's.

        None where none of a round's ranks is left.
        """
        norms: list[list[float]] = [[] for _ in range(self.rounds_done + 1)]
        for name, layer in self.layers.items():
            for birth, norm in zip(self.born[name], layer.rank_norms().tolist(), strict=True):
                norms[birth].append(norm)
        return [float(f"{fmean(values):.5g}") if values else None for values in norms]

    def after_step(self, done: int) -> Mapping[str, Any] | None:
        """Hold a round when one is due; return what it did, and the norms of old and new ranks."""
        self.score.after_step(done)
        row: dict[str, Any] = {}
        if done % max(1, self.settings.round_every // NORMS_A_ROUND) == 0:
            row["rank_norms"] = {"step": done, "by_birth": self.norms_by_birth()}
        if self.is_due(done):
            row["allocation"] = self.hold_round(done)
        return row or None

    def hold_round(self, done: int) -> dict[str, Any]:
        """Score, move, and return the step, every layer's ranks after it, and the scores."""
        scores = self.score.scores(self.rounds_done)
        self.move(scores)
        self.rounds_done += 1
        return {
            "step": done,
            "ranks": ranks_by_module(self.layers),
            "scores": {
                name: [float(f"{v:.5g}") for v in row.tolist()] for name, row in scores.items()
            },
        }

    def move(self, scores: Mapping[str, Tensor]) -> None:
        """Prune and give out by the scores; the optimizer's state of the others stays."""
        plan = reallocate(scores, self.ranks_moved, self.capacities())
        self.optimizer.zero_grad()  # the step has been made: what is left there is of no use
        resize_ranks(
            self.layers,
            plan.keep,
            plan.added,
            optimizers=self.optimizers,
            generator=torch.Generator().manual_seed(self.seed * 1_000_003 + self.rounds_done + 1),
        )
        self.score.resized(plan.keep, plan.added)
        for name, kept in plan.keep.items():
            new = [self.rounds_done + 1] * plan.added[name]
            self.born[name] = [self.born[name][k] for k in kept] + new

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the ranks and rounds so far, and the score's own tensors."""
        values = {"ranks": ranks_by_module(self.layers), "rounds_done": self.rounds_done}
        values["born"] = self.born
        return values, self.score.state()

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Give the layers the ranks they had, and the score its state."""
        set_ranks(self.layers, values["ranks"], self.optimizers)
        self.rounds_done, self.born = values["rounds_done"], dict(values["born"])
        self.score.restore(tensors)
