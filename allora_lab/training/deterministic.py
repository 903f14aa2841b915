"""Kernels that repeat themselves bit for bit, for the length of a `with` block."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"  # cuBLAS repeats itself only with a workspace of fixed size


@contextmanager
def deterministic_kernels(is_on: bool = True) -> Iterator[None]:
    """Let torch use deterministic algorithms alone, and restore its setting after.

    On a CPU a run repeats itself anyway.  On CUDA sums by atomic adds do not, and this refuses or
    replaces them, at some cost in time; an operation that has no deterministic form raises torch's own
    RuntimeError.  cuBLAS reads its variable when CUDA starts: set here, it holds for a process that has
    not used CUDA before.
    """
    before = torch.are_deterministic_algorithms_enabled()
    if is_on:
        os.environ.setdefault(CUBLAS, ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
