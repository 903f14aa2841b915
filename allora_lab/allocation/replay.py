"""The same scores for less: what a mask cannot change is replayed, many masks go in one batch.

A mask on a rank of layer m leaves everything that is computed before m as it was, and turns m's own
output y into y - c or, for M_r, into y₀ + c₀, where c = s g_k (x · A_k) B_k costs one column.  So:

- the forward pass is recorded once with all ranks and once with none;
- for the ranks of m, every module that had ended before m, or that reads the same tensor as m does,
  returns its recorded output, and m returns its recorded output changed by c, K masks at a time;
- what comes after m is computed, with W + s B diag(g) A as one matrix, and for M_r with W alone,
  and of each layer only the rows that the logits read (see `allocation.reach`).

A rank whose column of B or gate is zero, as a new one's is, changes nothing and costs nothing, and
so does one of a layer that the model does not call.  What it holds at most is every module's output
of the two passes, once more with its gradient while it looks for the rows that are read, one more
weight for each adapted layer, and K copies of what one module after another computes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from allora_lab.adapters.base import linear_weight
from allora_lab.adapters.gated import GatedLinear
from allora_lab.allocation.importance import (
    Batch,
    Scores,
    negative_cross_entropy,
    require_scorable,
)
from allora_lab.allocation.places import gated_layers
from allora_lab.allocation.reach import only_rows, reach, rows_read
from allora_lab.allocation.recording import (
    Forward,
    Recording,
    copied_batch,
    forwards,
    record,
    repeated,
    unchanged,
)
from allora_lab.checks import require_at_least


def require_replayable(layers: Mapping[str, GatedLinear], recording: Recording) -> None:
    """Raise ValueError, naming the first layer that cannot be replayed and why."""
    for name in layers:
        call = recording.calls.get(name)
        reasons = {
            "is used more than once in a forward pass": name in recording.twice,
            "has its input or output changed in place": name in recording.overwritten,
            "is given other than one tensor by its place": call is not None and call.read is None,
            "has an output not of one entry an example": call is not None
            and recording.follows.get(name) != (True,),
        }
        for reason, holds in reasons.items():
            if holds:
                raise ValueError(_no_replay(name, reason))


def _no_replay(name: str, reason: str) -> str:
    return (
        f"{name} {reason}, so its ranks cannot be replayed: set copies to 0, which scores them by "
        "plain forward passes (importance.plain_scores)"
    )


def require_full_precision(layers: Mapping[str, GatedLinear]) -> None:
    """Raise ValueError if a layer's pretrained weight is in half precision: it would hide a rank."""
    for name, layer in layers.items():
        if linear_weight(layer.base_layer).dtype.itemsize < 4:
            raise ValueError(_no_replay(name, "is in half precision, which hides a rank"))


@dataclass(frozen=True)
class Network:
    """M, or M without any rank: what its layers compute, its recorded pass, S, and a sign for c.

    `read` says of each row of its linear layers' outputs whether the logits read it.
    """

    forwards: dict[str, Forward]
    recording: Recording
    read: dict[str, Tensor]
    score: float
    sign: float


class Replayer:
    """Scores the ranks of a model on one batch; see the module."""

    def __init__(self, model: nn.Module, batch: Batch, copies: int) -> None:
        self.model, self.layers = model, gated_layers(model)
        require_full_precision(self.layers)
        self.most_copies, self.copies = copies, 1
        self.labels = batch["labels"]
        self.inputs = {key: value for key, value in batch.items() if key != "labels"}
        merged = {n: m.merged_weight() for n, m in self.layers.items()}
        plain = {n: linear_weight(m.base_layer) for n, m in self.layers.items()}
        self.whole = self._network(merged, -1.0)
        self.base = self._network(plain, 1.0, self.whole.read)

    def _network(
        self, weights: dict[str, Tensor], sign: float, read: dict[str, Tensor] | None = None
    ) -> Network:
        """Record the model with these weights, and let it compute the rows that are read alone.

        `read` is another network's, so that it need not be found again.
        """
        adapted = {
            name: partial(F.linear, weight=W, bias=self.layers[name].base_layer.bias)
            for name, W in weights.items()
        }
        with forwards(self.model, adapted):
            recording = record(self.model, self.inputs)
        require_replayable(self.layers, recording)
        linear = {**self._other_linear(recording), **adapted}
        if read is None:
            read = reach(self.model, self.inputs, linear)
        rows = rows_read(self.model, self.inputs, linear, recording.logits, read)
        score = negative_cross_entropy(recording.logits, self.labels)[0].item()
        reduced = {n: only_rows(f, rows.get(n), lambda: self.copies) for n, f in linear.items()}
        return Network(reduced, recording, read, score, sign)

    def _other_linear(self, recording: Recording) -> dict[str, Forward]:
        """Return the linear layers without ranks, whose rows are as much work as the others'."""
        inside = tuple(f"{name}." for name in self.layers)
        return {
            name: module.forward
            for name, module in self.model.named_modules()
            if type(module) in (nn.Linear, Conv1D)
            and not name.startswith(inside)
            and name not in recording.twice
            and recording.follows.get(name) == (True,)
            and recording.calls[name].read is not None
        }

    def masked_scores(self, network: Network, target: str, ranks: list[int]) -> Tensor:
        """Return S of the network for each of `ranks`, with its part of `target`'s output changed."""
        layer, calls = self.layers[target], network.recording.calls
        call = calls.get(target)
        if call is None:  # not called by this network: what is in it changes nothing
            return torch.full((len(ranks),), network.score, dtype=torch.float64)
        self.copies = len(ranks)
        A, B = layer.gated_A()[ranks], layer.lora_B[:, ranks]
        h = (call.read @ A.T).movedim(-1, 0)[..., None]  # (copies, n, ..., 1)
        part = h * B.T.view(self.copies, *[1] * (h.dim() - 2), -1)  # (copies, n, ..., d_out)
        output = (call.output + network.sign * layer.scaling * part).flatten(0, 1)
        replayed = {
            name: lambda *_a, name=name, **_k: repeated(
                calls[name].output, len(ranks), network.recording.follows[name]
            )
            for name in unchanged(network.recording, target)
        }
        inputs = copied_batch(self.inputs, len(ranks), len(self.labels))
        with forwards(self.model, {**network.forwards, **replayed, target: lambda _x: output}):
            logits = self.model(**inputs).logits
        return negative_cross_entropy(logits, self.labels, len(ranks))

    def scores(self) -> Scores:
        """Return IS of every rank by layer."""
        found: Scores = {}
        for name, layer in self.layers.items():
            row = torch.full((layer.r,), self.base.score, dtype=torch.float64)
            acting = layer.rank_norms().nonzero().flatten().tolist()
            for start in range(0, len(acting), self.most_copies):
                ranks = acting[start : start + self.most_copies]
                without = self.masked_scores(self.whole, name, ranks)
                alone = self.masked_scores(self.base, name, ranks)
                row[ranks] = self.whole.score - without.cpu() + alone.cpu()
            found[name] = row
        return found


@torch.no_grad()
def replayed_scores(model: nn.Module, batch: Batch, *, copies: int = 2) -> Scores:
    """Return IS of every rank by layer, as `plain_scores` does, for a fraction of the time.

    Parameters
    ----------
    copies
        K, how many masks are scored in one batch; the most memory grows with it.  On a CPU 1 and 2
        are fastest, for larger tensors are taken from the system anew each time.

    Raises
    ------
    ValueError
        For an empty batch, a model in training mode, one without gated layers, copies below 1, or
        a gated layer that cannot be replayed: used more than once in a pass, changed in place, not
        one output an example, or in half precision.
    """
    require_at_least("copies", copies, 1)
    require_scorable(model, batch)
    return Replayer(model, batch, copies).scores()
