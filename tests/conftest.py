import os

import matplotlib as mpl
import pytest
import torch

mpl.use("Agg")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


ASKED_FOR = ("browser", "site")  # tests that need what `make test-browser` and `make site` bring


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that a marker expression must ask for by name."""
    asked = config.option.markexpr.replace("not browser", "").replace("not site", "")
    left_out = [m for m in ASKED_FOR if m not in asked]
    dropped = [item for item in items if any(item.get_closest_marker(m) for m in left_out)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


@pytest.fixture
def rng() -> torch.Generator:
    """Give each test its own seeded generator; no test touches the global one."""
    return torch.Generator().manual_seed(0)
