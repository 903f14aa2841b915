"""The numbers of the figure `adaptive-rate` and what is said of them."""

import json

import pytest

from allora_lab.experiments.adaptive_rate import (
    NORMS,
    adaptive_rate_content,
    at_norm,
    family_curves,
    way_curves,
)


def test_the_content_is_json_and_starts_at_eta():
    content = adaptive_rate_content()
    assert json.loads(json.dumps(content)) == content
    for key, values in content["coefficients"].items():
        assert values[0] == pytest.approx(float(key) ** 0.5)


def test_the_sentences_give_the_exponents_the_noise_and_the_taper():
    exponent, noise, way = adaptive_rate_content()["sentences"]
    assert "-0.40 at a row norm of 1 and -0.50 at 100" in exponent
    assert "mean 1.11, standard deviation 0.34" in noise
    assert "ALLoRA has 0.89" in noise
    assert "0.0833" in way


@pytest.mark.parametrize("eta_squared", [0.25, 4.0, 16.0])
def test_curves_agree_with_the_values_at_one_norm(eta_squared):
    family, at = family_curves(eta_squared), at_norm(NORMS[50].item(), eta_squared)
    assert family["allora"][50] == pytest.approx(at["allora"])
    assert family["allora-od"][50] == pytest.approx(at["od_mean"], rel=1e-4)
    spread = (family["od_high"][50] - family["od_low"][50]) / 2
    assert spread == pytest.approx(at["od_spread"], rel=0.01)
    assert family["asf-lora"][50] == pytest.approx(at["asf"])


def test_the_way_of_allora_starts_with_the_fixed_scale_and_ends_below_lora():
    way = way_curves(4.0)
    assert way["allora"][0] == pytest.approx(way["lora-fixed-scale"][0], rel=1e-3)
    assert way["allora"][-1] < 0.1 * way["lora"][-1]
