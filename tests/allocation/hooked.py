"""A tiny encoder with ranks to move, and what a method's hook is given of it."""

from allora_lab.allocation.settings import AllocationSettings, HookContext
from allora_lab.training.optimizers import build_optimizer

from .tiny import adapted, text_batch


def encoder(method="alora-ablation", **changes):
    """Return the tiny BERT with its twelve modules in blocks adapted, and not the pooler."""
    targets = r".*layer\.\d\..*(query|key|value|dense)"
    return adapted("bert", method, **{"target_modules": targets, **changes})


def context_of(model, steps=100, seed=3, without=(), **settings):
    optimizer = build_optimizer(
        "adamw", model, lr=0.01, head_lr=0.01, weight_decay=0.0, without=without
    )
    return HookContext(
        model=model,
        optimizer=optimizer,
        settings=AllocationSettings(**{"first_round": 4, "round_every": 2, **settings}),
        steps=steps,
        seed=seed,
        score_batch=text_batch(),
        other_batch_at=lambda step: text_batch(seed=100 + step),
    )
