"""Where no layers are named, a run adapts those of the model's family, and old run ids stay."""

import pytest

from allora_lab.config import RunConfig
from allora_lab.planning.shapes import default_targets_of

DEFAULTS = {
    ("minilm", "sequence-classification"): ("query", "value"),
    ("llama-7b", "causal-lm"): ("q_proj", "v_proj"),
    ("llama-7b", "sequence-classification"): ("q_proj", "v_proj"),
}


@pytest.mark.parametrize("model", DEFAULTS, ids=" ".join)
def test_default_targets_fit_the_models_family(model):
    assert default_targets_of(*model) == DEFAULTS[model]


def test_a_run_of_minilm_keeps_its_id():
    config = RunConfig(method="lora")
    targets = default_targets_of(config.model, "sequence-classification")
    assert config.with_changes(target_modules=targets).run_id == config.run_id
