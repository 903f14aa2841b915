"""Two tasks on which the allocator is tried beyond text: one whose answer is known, one of images.

planted: a teacher that is the pretrained network but for a low-rank change of some modules labels
random inputs; ranks are of use in those modules alone.  digits: a small vision transformer that
knows the digits 0 to 4 is adapted to 5 to 9.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification

from allora_lab.data.images import load_images
from allora_lab.models.parallel_mlp import ParallelMLP

D, CLASSES, BLOCKS = 16, 8, 4
PLANTED = ("blocks.1.left", "blocks.2.right")  # where the teacher differs
SHIFT_RANK, SHIFT = 4, 2.0  # of each planted change: its rank, and its norm beside the weight's
ROWS = {"train": 4096, "score": 1024, "test": 2048}
PRETRAIN_STEPS, PRETRAIN_BATCH = 400, 64


@dataclass(frozen=True)
class RankTask:
    """A pretrained model to adapt, the modules that get ranks, and the data.

    `inputs` names the model's input; `data` has, for train, score and test, inputs and labels;
    `planted` are the modules where ranks are of use, where that is known.
    """

    model: nn.Module
    target_modules: tuple[str, ...]
    inputs: str
    data: dict[str, tuple[Tensor, Tensor]]
    planted: tuple[str, ...] = ()

    def batch(self, split: str, rows: Tensor | slice = slice(None)) -> dict[str, Tensor]:
        """Return rows of a split as the model takes them."""
        x, labels = self.data[split]
        return {self.inputs: x[rows], "labels": labels[rows]}


def planted_ranks(seed: int) -> RankTask:
    """Return the task whose optimal allocation is known: all ranks in PLANTED.

    A module's change has rank SHIFT_RANK and the Frobenius norm SHIFT times its weight's, spread
    evenly over the ranks.  Labels are the teacher's most likely class.
    """
    generator = torch.Generator().manual_seed(seed)
    model = ParallelMLP(D, CLASSES, BLOCKS, generator)
    teacher = copy.deepcopy(model)
    with torch.no_grad():
        for name in PLANTED:
            weight = teacher.get_submodule(name).weight
            left, _ = torch.linalg.qr(torch.randn(weight.shape[0], SHIFT_RANK, generator=generator))
            right, _ = torch.linalg.qr(
                torch.randn(weight.shape[1], SHIFT_RANK, generator=generator)
            )
            weight += SHIFT * weight.norm() * SHIFT_RANK**-0.5 * left @ right.T
        data = {}
        for split, rows in ROWS.items():
            x = torch.randn(rows, 2 * BLOCKS, D, generator=generator)
            data[split] = x, teacher(x).logits.argmax(dim=1)
    return RankTask(model, ("left", "right"), "x", data, PLANTED)


def _vit(seed: int) -> ViTForImageClassification:
    torch.manual_seed(seed)
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=3,
            intermediate_size=96,
            image_size=28,
            patch_size=7,
            num_channels=1,
            num_labels=5,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def _digits(lowest: int) -> tuple[Tensor, Tensor]:
    """Return images (n, 1, 28, 28) of five digits from `lowest` on, in a fixed order, labels 0 to 4."""
    images = load_images("mnist5k")
    pixels = np.concatenate([images.train_images, images.test_images])
    labels = np.concatenate([images.train_labels, images.test_labels]).astype(np.int64)
    kept = np.flatnonzero((labels >= lowest) & (labels < lowest + 5))
    kept = kept[torch.randperm(len(kept), generator=torch.Generator().manual_seed(0)).numpy()]
    x = torch.tensor(pixels[kept], dtype=torch.float32).reshape(-1, 1, 28, 28) / 255 - 0.5
    return x, torch.tensor(labels[kept] - lowest)


@lru_cache(maxsize=8)
def _pretrained(seed: int) -> dict[str, Any]:
    """Return the weights of the transformer after learning the digits 0 to 4."""
    model, (x, labels) = _vit(seed), _digits(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(PRETRAIN_STEPS):
        rows = torch.randint(len(x), (PRETRAIN_BATCH,))
        loss = model(pixel_values=x[rows], labels=labels[rows]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.state_dict()


def digits(seed: int) -> RankTask:
    """Return a vision transformer that knows 0 to 4, with a new head, and images of 5 to 9."""
    weights = _pretrained(seed)
    model = _vit(seed + 1000)  # its head is drawn anew
    head = {n: p for n, p in model.state_dict().items() if n.startswith("classifier")}
    model.load_state_dict({**weights, **head})
    x, labels = _digits(5)
    test, score = 1000, 32
    data = {
        "test": (x[:test], labels[:test]),
        "score": (x[test : test + score], labels[test : test + score]),
        "train": (x[test + score :], labels[test + score :]),
    }
    targets = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")
    return RankTask(model, targets, "pixel_values", data)


TASKS: dict[str, Callable[[int], RankTask]] = {"planted": planted_ranks, "digits": digits}
