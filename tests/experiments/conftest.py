from dataclasses import replace

import pytest

from allora_lab.experiments.records import RunRecord, read_record
from allora_lab.files import REPOSITORY


@pytest.fixture
def record_of():
    """Give what makes a record of a configuration and an accuracy from 0 to 1, all else a real run's."""
    template = read_record(min((REPOSITORY / "results" / "escape").glob("*.json")))

    def make(config, accuracy, **changes) -> RunRecord:
        steps = config.steps
        values = {
            "run_id": config.run_id,
            "config": config.to_json(),
            "metrics": {"eval_accuracy": accuracy, "eval_loss": 0.5},
            "trace": {"loss": [0.5] * steps, "step": [steps], "row_norm_mean": [0.01]},
        }
        return replace(template, **{**values, **changes})

    return make
