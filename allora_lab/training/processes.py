"""One run on several processes: each takes its share of every batch, and gradients are averaged.

`torchrun --nproc-per-node N -m allora_lab run ...` starts N processes that say in their environment who
they are (`accelerate launch` does so on GPUs; on a CPU it starts one).  Each draws the same batch, trains on its rows of it and gets the
gradient of the whole batch's mean loss,

    g = sum_p n_p g_p / sum_p n_p,        n_p: labels in the share of process p,

so that the numbers are those of one process, up to rounding and, where there is dropout, other masks.
Only what trains, adapters and head, is sent: in one message a step, with the loss and n_p.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from allora_lab.data.answers import IGNORED

LONGEST_WAIT = timedelta(days=1)  # the others wait while the first evaluates


def labels_in(batch: Mapping[str, Tensor]) -> int:
    """Return how many labels a batch's mean loss is over: classes (n,), or tokens to be predicted."""
    labels = batch["labels"]
    if labels.dim() == 1:
        return len(labels)
    return int((labels[:, 1:] != IGNORED).sum())


@dataclass(frozen=True)
class Processes:
    """Who takes part in a run: `rank` of `count`, and the place of this process on its machine."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Return whether this process writes, evaluates and shows progress for all."""
        return self.rank == 0

    def share(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return this process's rows of a batch: every `count`-th.

        Raises ValueError where there are fewer rows than processes.
        """
        rows = len(batch["labels"])
        if rows < self.count:
            raise ValueError(
                f"a batch of {rows} cannot be shared by {self.count} processes: set batch_size, which "
                "is of all of them together, to a multiple of their number"
            )
        return {key: value[self.rank :: self.count] for key, value in batch.items()}

    def agree(self, is_so: bool) -> bool:
        """Return whether it is so in any process, to all of them."""
        if self.count == 1:
            return is_so
        flag = torch.tensor(float(is_so), device=self._device())
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)

    def wait(self) -> None:
        """Return once every process has come here: what the first has written is there then."""
        self.agree(False)

    @torch.no_grad()
    def average(self, parameters: Iterable[Tensor], loss: Tensor, labels: int) -> Tensor:
        """Put the gradient of the whole batch's loss in place of the share's, and return that loss.

        `labels` is n_p, how many labels the share's mean loss is over.
        """
        if self.count == 1:
            return loss
        grads = [p.grad for p in parameters if p.grad is not None]
        parts = [*(g.flatten().float() for g in grads), loss.detach().float()[None]]
        sent = torch.cat([*parts, loss.new_ones(1, dtype=torch.float32)]) * labels
        dist.all_reduce(sent)
        *means, whole = (sent[:-1] / sent[-1]).split([*(g.numel() for g in grads), 1])
        for grad, mean in zip(grads, means, strict=True):
            grad.copy_(mean.view_as(grad))
        return whole[0]

    @torch.no_grad()
    def require_same(self, model: nn.Module, done: int) -> None:
        """Raise ValueError in every process unless all stand at the same step with the same weights."""
        if self.count == 1:
            return
        sums = [p.double().sum().item() for p in model.parameters() if p.requires_grad]
        here = torch.tensor([float(done), *sums], dtype=torch.float64, device=self._device())
        ends = torch.cat([here, -here])
        dist.all_reduce(ends, op=dist.ReduceOp.MAX)
        highest, lowest = ends[: len(here)], -ends[len(here) :]
        if not torch.equal(highest, lowest):
            raise ValueError(
                "the processes do not start from the same step and the same weights: give them the "
                "same folder for --out, the same model and the same package versions"
            )

    def _device(self) -> torch.device:
        is_gpu = dist.get_backend() == "nccl"
        return torch.device("cuda", self.local_rank) if is_gpu else torch.device("cpu")


ALONE = Processes()


def launched() -> int:
    """Return how many processes a launcher says there are; 1 without one."""
    return _from_launcher("WORLD_SIZE", "1")


def _from_launcher(name: str, default: str = "") -> int:
    text = os.environ.get(name, default)
    if not text.isdecimal():
        raise ValueError(
            f"the environment has {name}={text!r}, where a launcher such as torchrun puts a number: "
            "unset it, or start with torchrun"
        )
    return int(text)


@contextmanager
def joined(device: str) -> Iterator[tuple[Processes, str]]:
    """Join the processes a launcher started; give who takes part, and this one's device.

    On GPUs each process has its own, and NCCL carries the messages; on CPUs gloo does.
    """
    if launched() == 1:
        yield ALONE, device
        return
    rank, local = (_from_launcher(name) for name in ("RANK", "LOCAL_RANK"))
    is_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if is_gpu and local >= torch.cuda.device_count():
        raise ValueError(
            f"process {local} of this machine has no GPU of its own, for there are "
            f"{torch.cuda.device_count()}: start as many processes as there are GPUs, or add --device cpu"
        )
    if is_gpu:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if is_gpu else "gloo", timeout=LONGEST_WAIT)
    try:
        yield Processes(rank, launched(), local), f"cuda:{local}" if is_gpu else "cpu"
    finally:
        dist.destroy_process_group()
