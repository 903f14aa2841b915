"""The images of a gradient-variance run as tensors, and which of them are measured."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from allora_lab.data.images import ImageDataset


@dataclass(frozen=True)
class Pixels:
    """Images in [0, 1], standardised by the mean and deviation of all training pixels; labels."""

    train: Float[Tensor, "n_train d"]
    train_labels: Int[Tensor, " n_train"]
    test: Float[Tensor, "n_test d"]
    test_labels: Int[Tensor, " n_test"]

    @classmethod
    def of(cls, data: ImageDataset, train_size: int | None, device: torch.device) -> "Pixels":
        """Return a set's pixels; `train_size` images evenly spaced over the training set."""
        n = len(data.train_images)
        if train_size is not None and train_size > n:
            raise ValueError(f"train_size is {train_size}, but {data.key} has {n} training images")
        kept = np.linspace(0, n - 1, train_size or n).round().astype(int)
        mean, std = data.train_images.mean(), data.train_images.std()

        def pixels(images: UInt8[np.ndarray, "n d"]) -> Float[Tensor, "n d"]:
            scaled = torch.from_numpy(images.astype(np.float32))
            return scaled.sub_(float(mean)).div_(float(std)).to(device)

        def labels(numbers: UInt8[np.ndarray, " n"]) -> Int[Tensor, " n"]:
            return torch.from_numpy(numbers.astype(np.int64)).to(device)

        return cls(
            pixels(data.train_images[kept]),
            labels(data.train_labels[kept]),
            pixels(data.test_images),
            labels(data.test_labels),
        )


def measured_rows(n_train: int, batch: int, seed: int) -> Int[Tensor, " batch"]:
    """Return which training images are measured: the first of a draw that only the seed changes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(n_train, generator=generator)[:batch]
