import os

import matplotlib as mpl
import pytest
import torch

mpl.use("Agg")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture
def rng() -> torch.Generator:
    """Give each test its own seeded generator; no test touches the global one."""
    return torch.Generator().manual_seed(0)
