"""The angle by which ALLoRA's coefficients turn the gradient of A."""

import pytest
import torch

from allora_lab.experiments.gradient_angle import gradient_angles, turned_by
from allora_lab.experiments.one_layer import random_case, responses


def test_the_angle_by_hand():
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0])
    assert turned_by([x, x], [x, x]) == 0
    assert turned_by([x], [2 * x + y * 2 / 3]) == pytest.approx(45)
    assert turned_by([x], [y]) == pytest.approx(90)
    assert turned_by([x, 0 * x], [x, y / 3]) == pytest.approx(45), "tensors make one vector"


def test_unequal_coefficients_turn_the_gradient_of_A_and_equal_ones_do_not():
    def turned(row_norm):
        at = {"eta_squared": 4.0, "r": 8, "row_norm": row_norm}
        pair = (responses(random_case(), method=method, **at) for method in ("allora", "lora"))
        return turned_by(*([found["∇A"]] for found in pair))

    assert turned(1e-9) < 1e-6
    assert turned(2.0) > 5


def test_near_zero_the_coefficients_of_minilm_turn_the_gradient_of_A_by_almost_nothing():
    first, second = gradient_angles(steps=(1, 2))
    assert (first["step"], second["step"]) == (1, 2)
    assert 1.9 < second["lowest"] < second["mean"] < 2
    assert 0 < first["degrees"] < second["degrees"] < 0.1
