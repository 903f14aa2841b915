"""Train the network and, after every epoch, measure how far dropout masks move its gradient.

Epoch e depends on the configuration and e alone: the order of the images and the training masks
are drawn from (seed, e), the measurement's masks from (seed, e, batch).
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from allora_lab.data.images import ImageDataset, load_images
from allora_lab.experiments import environment
from allora_lab.experiments.variance_config import VarianceConfig
from allora_lab.experiments.variance_pixels import Pixels, measured_rows
from allora_lab.experiments.variance_progress import Clock, Stopped, VarianceProgress
from allora_lab.experiments.variance_records import VarianceRecord
from allora_lab.experiments.variance_summary import summarise
from allora_lab.models.mlp import MLP
from allora_lab.theory.gradient_variance import MLPWeights, stream_gradient_moments

CLASSES = 10
STEP_MASKS = 7  # about how many masks of the measurement one training step takes as long as


def weights_of(model: MLP) -> MLPWeights:
    """Return a network's weights for the theory; they share its memory."""
    return MLPWeights(*(parameter.detach() for parameter in model.parameters()))


@torch.no_grad()
def measure(
    config: VarianceConfig, model: MLP, pixels: Pixels, epoch: int, clock: Clock
) -> dict[str, dict[str, Any]]:
    """Return the spread of the second layer's gradient for each batch size, by its text."""
    model.eval()
    rows, spread = measured_rows(len(pixels.train), max(config.batches), config.seed), {}
    for size in config.batches:
        X, labels = pixels.train[rows[:size]], pixels.train_labels[rows[:size]]
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + 1009 * epoch + size)
        stream = stream_gradient_moments(
            weights_of(model),
            X,
            labels,
            keep=1 - config.dropout,
            n_masks=config.n_masks,
            generator=generator,
        )
        done = 0
        for moments in stream:
            clock.tick((moments.count - done) * size / 128)
            done = moments.count
        loss = F.cross_entropy(model(X), labels).item()
        spread[str(size)] = {"loss": float(f"{loss:.6g}"), **summarise(moments)}
    return spread


def train_epoch(
    config: VarianceConfig,
    model: MLP,
    optimizer: torch.optim.Optimizer,
    pixels: Pixels,
    epoch: int,
    clock: Clock,
) -> float:
    """Train for one pass over the images and return the mean loss of its batches (nats)."""
    model.train()
    torch.manual_seed(config.seed * 1_000_003 + epoch)  # the order, and the dropout masks
    losses = []
    for rows in torch.randperm(len(pixels.train)).split(config.train_batch):
        loss = F.cross_entropy(model(pixels.train[rows]), pixels.train_labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        clock.tick(STEP_MASKS)
    mean = float(np.mean(losses))
    if not np.isfinite(mean):
        raise ArithmeticError(f"the loss is {mean} in epoch {epoch}: lower lr")
    return mean


@torch.no_grad()
def accuracy_on_test(model: MLP, pixels: Pixels) -> float:
    """Return the share of test images whose largest logit is their label's, without dropout."""
    model.eval()
    hits = [
        (model(X).argmax(1) == labels).sum().item()
        for X, labels in zip(pixels.test.split(1000), pixels.test_labels.split(1000), strict=True)
    ]
    return sum(hits) / len(pixels.test)


def _epochs(
    config: VarianceConfig, model: MLP, pixels: Pixels, clock: Clock
) -> Iterator[dict[str, Any]]:
    """Yield one row an epoch: what is measured, and before it (but in row 0) what is trained."""
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum)
    for epoch in range(config.epochs + 1):
        loss = train_epoch(config, model, optimizer, pixels, epoch, clock) if epoch else None
        yield {
            "epoch": epoch,
            "train_loss": loss and float(f"{loss:.6g}"),
            "test_accuracy": accuracy_on_test(model, pixels),
            "spread": measure(config, model, pixels, epoch, clock),
        }


def run_variance(
    config: VarianceConfig,
    *,
    device: str = "cpu",
    data: ImageDataset | None = None,
    on_progress: Callable[[VarianceProgress], None] = lambda _progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> VarianceRecord | None:
    """Train and measure as `config` says; return the record, or None if it was stopped.

    `data` is the configuration's image set, loaded if None.  `on_progress` is told after every
    step and every 32 masks, `should_stop` asked as often.  On one machine a run repeats itself
    exactly.  Raises what `load_images` raises, and ArithmeticError when the loss is not finite.
    """
    where = environment.resolve_device(device)
    data = data or load_images(config.dataset)
    pixels = Pixels.of(data, config.train_size, where)
    generator = torch.Generator().manual_seed(config.seed)
    model = MLP(pixels.train.shape[1], config.width, CLASSES, config.dropout, generator).to(where)
    steps = config.epochs * -(-len(pixels.train) // config.train_batch)
    masks = (config.epochs + 1) * config.n_masks * sum(config.batches) / 128
    clock = Clock(STEP_MASKS * steps + masks, on_progress, should_stop)
    try:
        for row in _epochs(config, model, pixels, clock):
            clock.progress.epochs.append(row)
            on_progress(clock.progress)
    except Stopped:
        return None
    commit, dirty = environment.code_version()
    return VarianceRecord(
        run_id=config.run_id,
        config=config.to_json(),
        epochs=clock.progress.epochs,
        seconds=round(clock.seconds, 2),
        dataset_source=data.source,
        dataset_revision=data.revision,
        dataset_note=data.note,
        code_commit=commit,
        code_dirty=dirty,
        packages=environment.package_versions(),
        device=environment.device_name(where),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
