r"""AdaLoRA's own part in training (Zhang et al. 2023, arXiv 2303.10512, §3.2 and §3.3).

The loss gains γ times the mean over all P and Q of ||PᵀP - I||_F and ||QQᵀ - I||_F, as in the
authors' code.  Between t_init and T - t_final, every ΔT steps, the λ of all but the b(t) triplets
with the highest smoothed sensitivity are set to zero, where

    b(t) = b_T + (b_0 - b_T) (1 - (t - t_init) / (T - t_final - t_init))³                  (eq. 12)

Until then a zeroed triplet may come back; at T - t_final the ranks outside leave the tensors, which
the authors' code masks to the end.  t_final is half of the run here.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from allora_lab.allocation.hook import TrainingHook
from allora_lab.allocation.places import blocks, gated_layers, ranks_by_module
from allora_lab.allocation.reallocate import lowest
from allora_lab.allocation.resize import resize_ranks, set_ranks
from allora_lab.allocation.sensitivity import Sensitivity
from allora_lab.allocation.settings import HookContext


def budget_at(step: int, *, start: int, target: int, first: int, last: int) -> int:
    """Return b(t): `start` until `first`, `target` from `last` on, a cubic in between."""
    if step < first:
        return start
    if step >= last:
        return target
    left = 1 - (step - first) / (last - first)
    return round(target + (start - target) * left**3)


class SingularValueBudget(TrainingHook):
    """The orthogonality penalty, the sensitivities and the falling budget.

    Raises ValueError if the budget is below one rank a block or above the ranks there are, or t_init
    is not before the middle of the run.
    """

    def __init__(self, context: HookContext) -> None:
        self.settings, self.last = context.settings, context.steps // 2
        self.optimizer, self.layers = context.optimizer, gated_layers(context.model)
        self.start = sum(ranks_by_module(self.layers).values())
        asked = self.settings.rank_budget
        self.target = self.start // 2 if asked is None else asked
        least = blocks(self.layers)
        if not least <= self.target <= self.start:
            raise ValueError(
                f"rank_budget must be at least {least}, one rank a block, and at most {self.start}, "
                f"the ranks adalora starts with, got {self.target}"
            )
        if self.last < 2:
            raise ValueError(
                f"adalora ends its allocation in the middle of the run, for which {context.steps} steps "
                "are too few: set steps to 4 or more"
            )
        if not 0 < self.settings.first_round < self.last:
            raise ValueError(
                f"first_round must be between 1 and {self.last - 1} for adalora, which ends its "
                f"allocation in the middle of the run, got {self.settings.first_round}"
            )
        self.sensitivity = Sensitivity(self.layers)

    def penalty(self) -> Tensor:
        """Return γ · mean of ||PᵀP - I||_F and ||QQᵀ - I||_F."""
        terms = []
        for layer in self.layers.values():
            for gram in (layer.lora_B.T @ layer.lora_B, layer.lora_A @ layer.lora_A.T):
                eye = torch.eye(layer.r, dtype=gram.dtype, device=gram.device)
                terms.append(torch.linalg.matrix_norm(gram - eye) if layer.r else gram.sum())
        return self.settings.orthogonality * torch.stack(terms).mean()

    def after_backward(self) -> None:
        """Take the gradients into the sensitivities."""
        if sum(ranks_by_module(self.layers).values()) > self.target:
            self.sensitivity.update()

    @torch.no_grad()
    def after_step(self, done: int) -> Mapping[str, Any] | None:
        """Zero the λ outside the budget when it is time; at the end of allocation cut the tensors."""
        first, every = self.settings.first_round, self.settings.round_every
        due = first <= done < self.last and (done - first) % every == 0
        if not due and done != self.last:
            return None
        budget = budget_at(done, start=self.start, target=self.target, first=first, last=self.last)
        scores = self.sensitivity.scores()
        gone = lowest(scores, sum(map(len, scores.values())) - budget)
        for name, layer in self.layers.items():
            out = [k for k in range(layer.r) if (name, k) in gone]
            layer.lora_E[out] = 0
        if done == self.last:
            keep = {
                n: [k for k in range(m.r) if (n, k) not in gone] for n, m in self.layers.items()
            }
            added = dict.fromkeys(keep, 0)
            self.optimizer.zero_grad()
            resize_ranks(self.layers, keep, added, optimizers=(self.optimizer,))
            self.sensitivity.resized(keep, added)
        active = {n: len(m.lora_E.nonzero()) for n, m in self.layers.items()}
        return {"allocation": {"step": done, "ranks": active}}

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the ranks there are, and the sensitivities."""
        return {"ranks": ranks_by_module(self.layers)}, self.sensitivity.state()

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Give the layers the ranks they had, and the averages."""
        set_ranks(self.layers, values["ranks"], (self.optimizer,))
        self.sensitivity.restore(tensors)
