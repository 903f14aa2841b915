from dataclasses import replace

import pytest

from allora_lab.experiments.one_layer import random_case, ratios_to_lora
from allora_lab.experiments.statistics import mean_interval
from allora_lab.methods import METHODS


def ratios(**changes):
    settings = {"eta_squared": 4.0, "r": 8, "row_norm": 1e-9, **changes}
    return ratios_to_lora(random_case(), **settings)


def test_at_zero_allora_multiplies_the_gradients_of_A_and_B_by_eta_and_nothing_else():
    assert ratios()["allora"] == pytest.approx({"output": 1, "∇B": 2, "∇A": 2, "∇x": 1})


def test_a_fixed_scale_multiplies_everything_by_eta():
    row = ratios(eta_squared=9.0, row_norm=0.7)["lora-fixed-scale"]
    assert row == pytest.approx({"output": 3, "∇B": 3, "∇A": 3, "∇x": 3})


def test_rslora_scales_by_the_root_of_the_rank():
    assert ratios(r=16)["rslora"] == pytest.approx({"output": 4, "∇B": 4, "∇A": 4, "∇x": 4})


def test_far_from_zero_allora_learns_slower_than_lora():
    row = ratios(row_norm=4.0)["allora"]
    assert row["output"] == pytest.approx(1)
    assert row["∇B"] == pytest.approx((4 + 0.25) ** -0.5, rel=0.1)


def test_the_update_form_leaves_output_and_gradients_alone():
    row = ratios(row_norm=0.5)["allora-update"]
    assert row == pytest.approx({"output": 1, "∇B": 1, "∇A": 1, "∇x": 1})


def test_a_factor_that_a_method_freezes_has_no_gradient(monkeypatch):
    def frozen(layer, settings):
        adapted = lora.build(layer, settings)
        adapted.lora_A.requires_grad_(False)
        return adapted

    lora = METHODS["lora"]
    monkeypatch.setitem(METHODS, "rslora", replace(lora, build=frozen))
    row = ratios(row_norm=0.7)["rslora"]
    assert row == pytest.approx({"output": 1, "∇B": 1, "∇A": 0, "∇x": 1})


def test_interval_of_a_mean_by_hand():
    # 1, 2, 3: mean 2, standard error 1/√3, t(0.975, 2) = 4.302653
    mean, half = mean_interval([1.0, 2.0, 3.0])
    assert (mean, half) == (2.0, pytest.approx(4.302653 / 3**0.5, rel=1e-6))


def test_one_seed_has_no_interval():
    with pytest.raises(ValueError, match="at least two values"):
        mean_interval([1.0])
