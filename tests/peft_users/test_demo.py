"""The notebook's demonstration: what each optimizer leaves of ALLoRA's factor η."""

import pytest

from allora_lab.peft.demo import trap_ratios

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"  # PEFT's own
)


def test_sgd_keeps_the_factor_adamw_divides_it_out_and_the_wrapped_step_has_it_again():
    ratios = trap_ratios(eta_squared=4.0, steps=4)
    assert ratios["SGD"] == pytest.approx(2, rel=0.05)
    assert ratios["AdamW"] == pytest.approx(1, rel=0.05)
    assert ratios["AdamW, wrap_update"] == pytest.approx(2, rel=0.1)
