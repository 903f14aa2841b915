"""The training loop, in one function a reader can follow from top to bottom.

Step t depends on the parameters, the optimizer's state and t alone: the batch and the dropout masks
are both drawn from (seed, t).  A run that is stopped and resumed therefore repeats the
uninterrupted one exactly (bit for bit on a CPU), and no random state has to be saved.  The masks come
from torch's global generator: what else draws from it in another thread meanwhile changes them.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from allora_lab.allocation.hook import TrainingHook
from allora_lab.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from allora_lab.training.interrupt import deferred_interrupt
from allora_lab.training.processes import ALONE, Processes, labels_in
from allora_lab.training.trace import append_row, measure


class NonFiniteLossError(ArithmeticError):
    """The loss became infinite or not a number; the message says at which step and what to try."""


def require_finite(loss: Tensor, step: int, steps: int) -> None:
    """Raise NonFiniteLossError unless the loss of `step` (from 1) is finite."""
    if not torch.isfinite(loss):
        raise NonFiniteLossError(
            f"the loss is {loss.item()} at step {step} of {steps}: lower lr, set clip_norm to 1, or "
            "lengthen the warm-up"
        )


def clip(model: nn.Module, optimizer: Optimizer, norm: float) -> None:
    """Scale the gradients of what the optimizer steps so that their norm is `norm` at most."""
    stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if id(p) in stepped], norm)


def backward(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Sequence[Mapping[str, Tensor]],
    penalty: Callable[[], Tensor | None],
) -> tuple[Tensor, int]:
    """Put the gradient of the mean loss over the labels of all batches into the parameters.

    L = Σ_i n_i L_i / Σ_i n_i,      n_i: labels in batch i

    is the loss of one batch that holds the rows of all, and only one batch is in memory at a time.
    The penalty is differentiated once, and is not part of the loss.  Returns L and Σ_i n_i.
    """
    device = next(model.parameters()).device
    counts = [labels_in(batch) for batch in batches]
    losses = []
    for batch, count in zip(batches, counts, strict=True):
        loss = model(**{k: v.to(device) for k, v in batch.items()}).loss * (count / sum(counts))
        extra = None if losses else penalty()
        if not losses:
            optimizer.zero_grad()
        (loss if extra is None else loss + extra).backward()
        losses.append(loss.detach())
    return torch.stack(losses).sum(), sum(counts)


def train(
    model: nn.Module,
    optimizer: Optimizer,
    batch_at: Callable[[int], Mapping[str, Tensor]],
    *,
    steps: int,
    accumulate: int = 1,
    seed: int,
    run_id: str,
    trace_steps: Collection[int] = (),
    eval_every: int | None = None,
    evaluate: Callable[[], Mapping[str, Any]] = dict,
    rate_factor: Callable[[int], float] = lambda _step: 1.0,
    clip_norm: float | None = None,
    hook: TrainingHook | None = None,
    processes: Processes = ALONE,
    checkpoint: Path | None = None,
    save_every: int = 200,
    on_note: Callable[[str], None] = lambda _note: None,
    on_step: Callable[[Progress], None] = lambda _progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train to `steps` optimizer steps, resuming from `checkpoint` if it exists.

    A step takes `accumulate` batches, of which `batch_at` gives each by its number (from 0 to
    steps x accumulate - 1); see `backward`.  `rate_factor` gives for a step (from 0) what multiplies each
    group's `initial_lr` at it; `trace_steps` the counts of steps done at which the norms are
    measured, besides the start and the end.  Before the first step and after every `eval_every` steps
    `evaluate()` is asked and its values kept in `trace["evaluations"]`; it must leave the model and
    the optimizer as they were.  `hook` is the method's own part (see `allocation.hook`); what it
    returns after a step is traced.  Of several `processes` each is given its share of the batch, and
    the first alone evaluates and saves.  `model(**batch)` must have a `.loss`.  `should_stop` is asked
    before a step, `on_step` sees it after.  A checkpoint is written every `save_every`, and at the end;
    `on_note` is given the sentence about one that a full disk keeps from being written.

    Returns the progress: `done` < `steps` if stopped; the trace has `loss` of every step (nats),
    and lists beside `step` with the norms (see `training.trace`).  Raises NonFiniteLossError at the
    first loss that is not finite, and KeyboardInterrupt on Ctrl-C or SIGTERM once the step is saved.
    """
    hook = hook or TrainingHook()
    resumed = checkpoint and load_checkpoint(
        checkpoint, run_id=run_id, model=model, optimizer=optimizer, hook=hook, steps=steps
    )
    progress = resumed or Progress(0, append_row({}, {"step": 0, **measure(model)}))
    done, trace = progress.done, progress.trace
    processes.require_same(model, done)
    evaluate, saved = (evaluate, checkpoint) if processes.is_first else (dict, None)
    keep = (saved, run_id, model, optimizer)
    if eval_every and "evaluations" not in trace:
        append_row(trace, {"evaluations": {"step": 0, **evaluate()}})
    model.train()
    with deferred_interrupt() as interrupted:
        while done < steps and not processes.agree(should_stop() or interrupted()):
            torch.manual_seed(seed * 1_000_003 + done + processes.rank * 2_000_000_011)  # masks
            batches = [batch_at(done * accumulate + i) for i in range(accumulate)]
            loss, labels = backward(model, optimizer, batches, hook.penalty)
            loss = processes.average(model.parameters(), loss, labels)
            require_finite(loss, done + 1, steps)
            hook.after_backward()
            if clip_norm is not None:
                clip(model, optimizer, clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * rate_factor(done)
            optimizer.step()

            done += 1
            trace.setdefault("loss", []).append(float(f"{loss.item():.6g}"))
            if done in trace_steps or done == steps:
                append_row(trace, {"step": done, **measure(model)})
            append_row(trace, hook.after_step(done) or {})
            if eval_every and done % eval_every == 0:
                append_row(trace, {"evaluations": {"step": done, **evaluate()}})
            on_step(Progress(done, trace))
            if saved and done < steps and done % save_every == 0:
                save_checkpoint(*keep, Progress(done, trace), hook, on_note)

        if saved:  # also of a finished run, whose evaluation may yet be interrupted
            save_checkpoint(*keep, Progress(done, trace), hook, on_note if done == steps else None)
        processes.wait()  # else another could look for the checkpoint before it is written
    return Progress(done, trace)
