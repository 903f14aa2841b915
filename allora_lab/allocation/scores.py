"""How a rank's importance is judged: AB-LoRA's ablation, and the rivals it is compared with.

Every score has the same four places to act: after a backward pass, after a step, when it is asked,
and when ranks are moved.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from allora_lab.allocation.importance import Scores, plain_scores
from allora_lab.allocation.places import gated_layers
from allora_lab.allocation.replay import replayed_scores
from allora_lab.allocation.sensitivity import Sensitivity
from allora_lab.allocation.settings import HookContext


class RankScore:
    """A rule that gives every rank a score, the higher the more important; does nothing by itself."""

    optimizers: tuple[Optimizer, ...] = ()  # its own, which must follow a resize

    def after_backward(self) -> None:
        """See the gradients of a step."""

    def after_step(self, done: int) -> None:
        """Act after `done` optimizer steps."""

    def scores(self, round_number: int) -> Scores:
        """Return every rank's score by layer, for the round `round_number` (from 0)."""
        raise NotImplementedError

    def resized(self, keep: Mapping[str, Sequence[int]], added: Mapping[str, int]) -> None:
        """Follow ranks that moved."""

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a resumed run needs."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave; the layers have their ranks by then."""


class AblationScore(RankScore):
    r"""AB-LoRA: IS(r) = S(M) - S(M \\ r) + S(M_r) on one held-out batch (§3.3, eq. 6)."""

    def __init__(self, context: HookContext) -> None:
        if context.score_batch is None:
            raise ValueError("alora-ablation needs a held-out batch: give score_batch")
        device = next(context.model.parameters()).device
        self.model, self.copies = context.model, context.settings.copies
        self.batch = {key: value.to(device) for key, value in context.score_batch.items()}

    def scores(self, round_number: int) -> Scores:
        """Return IS, measured in evaluation mode; the model is left in the mode it was in."""
        was_training = self.model.training
        self.model.eval()
        try:
            if not self.copies:
                return plain_scores(self.model, self.batch)
            return replayed_scores(self.model, self.batch, copies=self.copies)
        finally:
            self.model.train(was_training)


class SensitivityScore(RankScore):
    """ALoRA-Sensi: the smoothed sensitivity of AdaLoRA (§4.5); see `allocation.sensitivity`."""

    def __init__(self, context: HookContext) -> None:
        self.sensitivity = Sensitivity(gated_layers(context.model))
        self.after_backward = self.sensitivity.update
        self.resized = self.sensitivity.resized
        self.state, self.restore = self.sensitivity.state, self.sensitivity.restore

    def scores(self, round_number: int) -> Scores:
        """Return the smoothed sensitivities."""
        return self.sensitivity.scores()


class MagnitudeScore(RankScore):
    """||s B_k A_k||_F, how much of the update is rank k's; not in the paper."""

    def __init__(self, context: HookContext) -> None:
        self.layers = gated_layers(context.model)

    def scores(self, round_number: int) -> Scores:
        """Return the norms."""
        return {name: m.rank_norms().double().cpu() for name, m in self.layers.items()}


class RandomScore(RankScore):
    """Uniform numbers drawn from the run's seed and the round: what any score must beat."""

    def __init__(self, context: HookContext) -> None:
        self.layers, self.seed = gated_layers(context.model), context.seed

    def scores(self, round_number: int) -> Scores:
        """Return the draws of a round."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + round_number)
        return {
            name: torch.rand(m.r, generator=generator, dtype=torch.float64)
            for name, m in self.layers.items()
        }


class RelaxedGateScore(RankScore):
    """ALoRA-DNAS: a' = 2 sigmoid(t), with t learned on the data that A and B do not see (§3.3).

    After every step of A and B on the first half of the training set, one step of Adam on t with
    the gradient of the loss on a batch of the second half: DARTS's first-order form.
    """

    def __init__(self, context: HookContext) -> None:
        if context.other_batch_at is None:
            raise ValueError(
                "alora-dnas needs a second half of the training set to learn its gates"
            )
        self.context, self.layers = context, gated_layers(context.model)
        logits = [layer.lora_gate_logit for layer in self.layers.values()]
        self.optimizers = (Adam(logits, lr=context.settings.gate_lr),)

    def after_step(self, done: int) -> None:
        """Move t down its gradient on the other half's batch of this step."""
        model, (optimizer,) = self.context.model, self.optimizers
        logits = optimizer.param_groups[0]["params"]
        device = logits[0].device
        batch = self.context.other_batch_at(done - 1)
        loss = model(**{key: value.to(device) for key, value in batch.items()}).loss
        for t, gradient in zip(logits, torch.autograd.grad(loss, logits), strict=True):
            t.grad = gradient
        optimizer.step()
        optimizer.zero_grad()

    def scores(self, round_number: int) -> Scores:
        """Return a'."""
        return {name: m.gates().detach().double().cpu() for name, m in self.layers.items()}

    def state(self) -> dict[str, Tensor]:
        """Return Adam's state of t, by its place and name."""
        state = self.optimizers[0].state_dict()["state"]
        return {f"adam.{i}.{k}": v for i, entries in state.items() for k, v in entries.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take Adam's state back."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            kind, _, rest = key.partition(".")
            if kind == "adam":
                index, _, name = rest.partition(".")
                state.setdefault(int(index), {})[name] = value
        whole = self.optimizers[0].state_dict()
        self.optimizers[0].load_state_dict({**whole, "state": state})
