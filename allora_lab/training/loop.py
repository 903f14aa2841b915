"""The training loop, in one function a reader can follow from top to bottom.

Step t depends on the parameters, the optimizer's state and t alone: the batch and the dropout masks
are both drawn from (seed, t).  A run that is stopped and resumed therefore repeats the
uninterrupted one exactly (bit for bit on a CPU), and no random state has to be saved.  The masks come
from torch's global generator: what else draws from it in another thread meanwhile changes them.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from allora_lab.allocation.hook import TrainingHook
from allora_lab.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from allora_lab.training.interrupt import deferred_interrupt
from allora_lab.training.processes import ALONE, Processes
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


def train(
    model: nn.Module,
    optimizer: Optimizer,
    batch_at: Callable[[int], Mapping[str, Tensor]],
    *,
    steps: int,
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
    on_step: Callable[[Progress], None] = lambda _progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train to `steps` optimizer steps, resuming from `checkpoint` if it exists.

    `batch_at` gives the batch of a step (0 to steps - 1); `rate_factor` what multiplies each
    group's `initial_lr` at it; `trace_steps` the counts of steps done at which the norms are
    measured, besides the start and the end.  Before the first step and after every `eval_every` steps
    `evaluate()` is asked and its values kept in `trace["evaluations"]`; it must leave the model and
    the optimizer as they were.  `hook` is the method's own part (see `allocation.hook`); what it
    returns after a step is traced.  Of several `processes` each is given its share of the batch, and
    the first alone evaluates and saves.  `model(**batch)` must have a `.loss`.  `should_stop` is asked
    before a step, `on_step` sees it after.  A checkpoint is written every `save_every`, and at the end.

    Returns the progress: `done` < `steps` if stopped; the trace has `loss` of every step (nats),
    and lists beside `step` with the norms (see `training.trace`).  Raises NonFiniteLossError at the
    first loss that is not finite, and KeyboardInterrupt on Ctrl-C once the step at hand is saved.
    """
    device = next(model.parameters()).device
    hook = hook or TrainingHook()
    resumed = checkpoint and load_checkpoint(
        checkpoint, run_id=run_id, model=model, optimizer=optimizer, hook=hook
    )
    progress = resumed or Progress(0, append_row({}, {"step": 0, **measure(model)}))
    done, trace = progress.done, progress.trace
    processes.require_same(model, done)
    evaluate = evaluate if processes.is_first else dict
    saved = checkpoint if processes.is_first else None
    if eval_every and "evaluations" not in trace:
        append_row(trace, {"evaluations": {"step": 0, **evaluate()}})
    model.train()
    with deferred_interrupt() as interrupted:
        while done < steps and not processes.agree(should_stop() or interrupted()):
            torch.manual_seed(seed * 1_000_003 + done + processes.rank * 2_000_000_011)  # masks
            batch = batch_at(done)
            loss = model(**{k: v.to(device) for k, v in batch.items()}).loss
            optimizer.zero_grad()
            penalty = hook.penalty()
            (loss if penalty is None else loss + penalty).backward()
            loss = processes.average(model.parameters(), loss, batch)
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
                save_checkpoint(saved, run_id, model, optimizer, Progress(done, trace), hook)

        if saved:  # also of a finished run, whose evaluation may yet be interrupted
            save_checkpoint(saved, run_id, model, optimizer, Progress(done, trace), hook)
        processes.wait()  # else another could look for the checkpoint before it is written
    return Progress(done, trace)
