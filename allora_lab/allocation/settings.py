"""What the methods that move ranks are told, and what they are given to work with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

Batch = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class AllocationSettings:
    """The settings of Algorithm 1 and its rivals; a method reads some of them.

    Attributes
    ----------
    rank_budget
        R_target over the whole model: where allocation starts and stays, and where AdaLoRA ends;
        None means r for every module (AdaLoRA: half of that).
    ranks_moved, rounds
        n_A, the ranks that move in a round (None: N_mod, as in the paper), and N_A, at most so many
        rounds.
    first_round, round_every
        K1 and K2 in optimizer steps; AdaLoRA: when its budget starts to fall, and how often.
    copies
        How many masks are scored in one batch; on a CPU few are fastest.  0: by plain forward passes,
        which hold one pass in memory where the replay holds several.
    gate_penalty, gate_threshold
        SoRA's λ and ξ.
    orthogonality
        AdaLoRA's γ.
    gate_lr
        Learning rate of ALoRA-DNAS's t.
    """

    first_round: int
    round_every: int
    rank_budget: int | None = None
    ranks_moved: int | None = None
    rounds: int = 8
    copies: int = 2
    gate_penalty: float = 10.0
    gate_threshold: float = 3e-4
    orthogonality: float = 0.1
    gate_lr: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class HookContext:
    """What a hook works on: the model and its optimizer, the run's length and its seed.

    `score_batch` is a held-out batch, and `other_batch_at` gives batches of the training data that
    the main loop leaves out, each for a method that asked for it.
    """

    model: nn.Module
    optimizer: Optimizer
    settings: AllocationSettings
    steps: int
    seed: int
    score_batch: Batch | None = None
    other_batch_at: Callable[[int], Batch] | None = None
