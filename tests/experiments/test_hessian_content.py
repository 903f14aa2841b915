"""The numbers of the figure `hessian`, and the words they are put into."""

import json
from dataclasses import replace

import pytest
import torch

from allora_lab.experiments.hessian import (
    checks,
    conditioning,
    convex_case,
    findings,
    hessian_content,
    joint_case,
)
from allora_lab.experiments.planted_task import planted_task, start_of_A
from allora_lab.experiments.slices import VIEWS, slice_of, toy_task
from allora_lab.theory.hessian import loss
from allora_lab.theory.landscape import joint_loss


@pytest.fixture(scope="module")
def content():
    return hessian_content()


def test_the_content_is_json_and_repeats_itself(content):
    assert json.loads(json.dumps(content)) == content
    assert hessian_content() == content


def test_a_planted_change_of_rank_two_explains_the_targets():
    task = planted_task(40, d_in=7, d_out=4)
    change = torch.linalg.lstsq(task.X, task.Y).solution.T - task.W
    expected = torch.tensor([1.0, 0.5, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.svdvals(change), expected)
    assert loss(task, change) < 1e-20


def test_fewer_samples_are_the_first_ones_and_fewer_ranks_too():
    assert torch.equal(planted_task(4, d_in=7).X, planted_task(9, d_in=7).X[:4])
    assert torch.equal(planted_task(4, d_in=7).W, planted_task(9, d_in=7).W)
    assert torch.equal(start_of_A(7, 2), start_of_A(7, 5)[:2])
    torch.testing.assert_close(3 * start_of_A(7, 2), start_of_A(7, 2, scale=3.0))


def test_A_starts_as_LoRA_starts_it():
    A = start_of_A(1000, 16)
    assert A.abs().max() <= 1000**-0.5
    # a uniform variable within ± 1/√d has standard deviation 1/√(3d), known here to 1 %
    assert A.std().item() == pytest.approx((3 * 1000) ** -0.5, rel=0.03)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: planted_task(0), "n must be at least 1"),
        (lambda: planted_task(257), "n must be at most 256"),
        (lambda: planted_task(4, d_out=1), "d_out must be at least 2"),
        (lambda: start_of_A(r=17), "r must be at most 16"),
        (lambda: slice_of("A", 1.0), "did you mean 'V'|unknown view 'A'"),
    ],
)
def test_settings_out_of_range_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_the_rank_falls_with_the_samples_and_the_smallest_n_is_not_the_worst(content):
    few, equal, many = content["spectra"]
    assert [case["rank"] for case in (few, equal, many)] == [5 * 8, 160, 160]
    assert few["eigenvalues"].count(0.0) == 24
    rows = content["conditioning"]
    assert rows["n"][rows["median"].index(max(rows["median"]))] == content["d_in"]
    assert rows["predicted"][rows["n"].index(32)] is None


def test_the_slowest_time_belongs_to_the_least_nonzero_eigenvalue():
    case = convex_case(planted_task(8))
    least = min(h for h in case["eigenvalues"] if h > 0)
    assert case["slowest_time"] == pytest.approx(4.605170 / least)
    assert case["condition"] == pytest.approx(case["eigenvalues"][0] / least)


def test_condition_numbers_are_medians_over_seeds():
    one, three = conditioning([8], n_draws=1), conditioning([8], n_draws=3)
    each = [convex_case(planted_task(8, seed=s))["condition"] for s in range(3)]
    assert one["median"] == pytest.approx(each[:1])
    assert three["median"] == pytest.approx([sorted(each)[1]])


def test_closed_forms_agree_with_autograd_and_the_prints_do_not():
    errors = checks()
    for name in ("gradient", "hessian", "hessian_paper_layout", "joint_hessian"):
        assert errors[name] < 1e-12
    assert errors["hessian_as_printed"] == pytest.approx(0.5)  # the factor 2
    assert errors["gradient_as_printed"] > 0.1
    assert errors["hessian_wrong_order"] > 0.1


def test_only_zero_is_a_saddle_and_signs_alone_do_not_show_it(content):
    zero, *others = content["landscape"]
    assert zero["gradient_A"] == zero["gradient_B"] == 0
    assert zero["negative"] == zero["positive"] == 2 * content["r"]  # rank 2, each r times
    for row in others:
        assert row["gradient_A"] == 0 < row["gradient_B"]
        assert row["negative"] == zero["negative"]
        assert row["negative"] + row["zero"] + row["positive"] == 4 * (32 + 5)


def test_the_gradient_grows_with_the_scale_of_A_and_the_speed_with_its_square(content):
    rows = {row["scale"]: row for row in content["landscape"]}
    assert rows[1.0]["gradient_B"] == pytest.approx(10 * rows[0.1]["gradient_B"])
    assert rows[1.0]["speed_ratio"] == pytest.approx(100 * rows[0.1]["speed_ratio"])


def test_the_wait_grows_as_the_logarithm_and_LoRA_waits_longer_than_full_fine_tuning(content):
    rows = content["escape"]
    assert rows["slope"] == pytest.approx(rows["expected_slope"], rel=2e-3)
    assert min(rows["times"]) > rows["full_time"]
    small = [t for s, t in zip(rows["scales"], rows["times"], strict=True) if s <= 1]
    assert small == sorted(small, reverse=True)


def test_the_findings_carry_the_numbers(content):
    words = " ".join(findings(content))
    assert words == " ".join(content["sentences"])
    start = next(row for row in content["landscape"] if row["scale"] == 1)
    assert f"‖∇B‖ = {start['gradient_B']:.1f}" in words
    assert "rank 40 of 160" in words
    changed = json.loads(json.dumps(content))
    changed["spectra"][0]["rank"] = 35
    assert "rank 35 of 160" in findings(changed)[0]
    assert "125 directions never move" in findings(changed)[0]


def test_the_toy_is_ab_minus_one_squared():
    a, b = (torch.full((1, 1), v, dtype=torch.float64) for v in (3.0, 2.0))
    assert joint_loss(toy_task(), a, b) == 25


def test_each_slice_has_the_slope_and_curvature_of_its_cuts():
    for view, scale in [(view, scale) for view in VIEWS for scale in (0.0, 1.0)]:
        part = slice_of(view, scale, points=801)
        step = (part.steps[1] - part.steps[0]).item()
        for cut, slope, curvature in zip(
            (part.losses[:, 400], part.losses[400]), part.slopes, part.curvatures, strict=True
        ):
            before, here, after = cut[399:402].tolist()
            assert here == pytest.approx(part.at_point)
            assert (after - before) / (2 * step) == pytest.approx(slope, abs=2e-3)
            assert (before - 2 * here + after) / step**2 == pytest.approx(curvature, abs=2e-2)


def test_a_slice_names_what_it_shows():
    at_start = slice_of("V", 1.0)
    assert at_start.gradient_norm > 1
    assert at_start.kind.startswith("on the wall of a trough")
    assert replace(at_start, gradient_norm=0.0).kind.startswith("at the bottom of a trough")
    for view in ("A and B", "toy"):
        assert slice_of(view, 0.0).kind.startswith("a saddle")
        assert slice_of(view, 1.0).kind.startswith("no saddle")


def test_along_the_null_direction_of_V_the_loss_is_the_same_everywhere():
    part = slice_of("V", 0.0)
    assert (part.losses - part.losses[:1]).abs().max() < 1e-12
    assert part.losses[7].std() > 1


def test_the_gradient_at_a_slice_is_that_of_the_whole_point():
    part = slice_of("toy", 1.5)  # in two variables the plane is the whole space
    assert part.gradient_norm == pytest.approx(3.0)  # ∂b = -2a
    assert sum(s**2 for s in part.slopes) ** 0.5 == pytest.approx(3.0)
    case = joint_case(planted_task(4, d_in=6, d_out=3), start_of_A(6, 2))
    assert slice_of("A and B", 1.0).gradient_norm == pytest.approx(case["gradient_B"])
