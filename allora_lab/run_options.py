"""What `allora-lab run` is told, by flags, by a TOML file or by both, as one configuration."""

import argparse
import math
from dataclasses import fields

from allora_lab.checks import require_at_most, require_positive, require_type
from allora_lab.config import RunConfig, config_from
from allora_lab.data.batches import batches_an_epoch
from allora_lab.data.datasets import load_dataset
from allora_lab.experiments.sweep import read_toml
from allora_lab.experiments.tasks import model_task
from allora_lab.flags import targets_in
from allora_lab.methods import get_method
from allora_lab.planning.shapes import default_targets_of
from allora_lab.settings import LARGEST_COUNT


def config_of(options: argparse.Namespace) -> RunConfig:
    """Return the configuration that a TOML file and the flags of `run` give together; flags win.

    `epochs` becomes steps here, and targets that nothing names the queries and values of the model's
    family: a run is named by its steps and targets.
    """
    values = read_toml(options.config) if options.config else {}
    names = {"epochs", *(field.name for field in fields(RunConfig))}
    flags = {k: v for k, v in vars(options).items() if k in names and v is not None}
    if "target_modules" in flags:
        flags["target_modules"] = targets_in(flags["target_modules"])
    for given, words in ((values, f"{options.config} says"), (flags, "the command line says")):
        if {"epochs", "steps"} <= given.keys():
            raise ValueError(f"{words} both steps and epochs: leave one of them out")
    if "epochs" in flags:
        values.pop("steps", None)
    if "steps" in flags:
        values.pop("epochs", None)
    settings = {**values, **flags}
    if "method" not in settings:
        wanted = f'add method = "allora" to {options.config}, or' if options.config else "add"
        raise ValueError(f"no method is named: {wanted} --method allora, or another of the table")
    epochs = settings.pop("epochs", None)
    config = config_from(settings)
    if not ("target_modules" in settings or options.trust_remote_code):
        targets = default_targets_of(config.model, model_task(config))
        config = config.with_changes(target_modules=targets)
    return config if epochs is None else config.with_changes(steps=steps_of(config, epochs))


def steps_of(config: RunConfig, epochs: float) -> int:
    """Return the steps of so many passes over a run's training data: at least one, rounded up."""
    require_type("epochs", epochs, float)
    require_positive("epochs", epochs)
    require_at_most("epochs", epochs, LARGEST_COUNT)
    rows = len(load_dataset(config.dataset).train.first(config.train_size))
    if get_method(config.method).splits_train:
        rows = (rows + 1) // 2  # A and B learn from the first half
    batches = batches_an_epoch(rows, config.batch_size)
    steps = math.ceil(epochs * batches / config.gradient_accumulation_steps)
    print(f"{epochs:g} epochs of {rows} sentences are {steps} steps")
    return steps
