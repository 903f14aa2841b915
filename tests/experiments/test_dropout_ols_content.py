"""The numbers of the figure `dropout-ols`, and the words they are put into."""

import copy
import json
from dataclasses import replace

import pytest
import torch

from allora_lab.experiments.dropout_case import (
    SIZES,
    STEP_SIZE,
    STEPS,
    dropout_case,
    moving_W,
    shrinkage,
)
from allora_lab.experiments.dropout_findings import findings
from allora_lab.experiments.dropout_ols import dropout_ols_content
from allora_lab.experiments.dropout_task import C, D, R, dropout_task, optimum
from allora_lab.theory.dropout_ols import (
    PLACEMENTS,
    expected_loss,
    input_dropout,
    loss_variance,
    output_dropout,
    plain_loss,
)
from allora_lab.theory.mean_of_draws import NORMAL_FACTOR


@pytest.fixture(scope="module")
def content():
    return dropout_ols_content()


def cases(content, name):
    return {p: content["cases"][p][name] for p in PLACEMENTS}


def test_the_content_is_json_and_repeats_itself(content):
    assert json.loads(json.dumps(content)) == content
    assert dropout_ols_content() == content
    setting = {"placement": "output", "keep": 0.9, "is_whitened": False}
    assert dropout_case(seed=1, **setting) != content["cases"]["output"]["not_whitened"]


def test_whitening_changes_the_eigenvalues_and_keeps_their_mean():
    white, plain = dropout_task(is_whitened=True), dropout_task(is_whitened=False)
    torch.testing.assert_close(white.X.T @ white.X, 24 * torch.eye(D, dtype=torch.float64))
    for task in (white, plain):
        gram = task.X.T @ task.X
        assert gram.trace().item() == pytest.approx(24 * D)
        torch.testing.assert_close(gram @ task.directions, task.directions * task.eigenvalues)
    assert (plain.eigenvalues[0] / plain.eigenvalues[-1]).item() == pytest.approx(81)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_optimum_is_one_and_its_parts_belong_together(placement, rng):
    task = dropout_task(is_whitened=False)
    best = optimum(task, placement, 0.8)
    torch.testing.assert_close(best.fit.Z @ best.fit.M, task.X @ best.W)
    least = expected_loss(best.fit, 0.8)
    for _ in range(20):
        near_W = best.W + 0.05 * torch.randn(D, C, generator=rng, dtype=torch.float64)
        near_Z = task.X @ (0.05 * torch.randn(D, R, generator=rng, dtype=torch.float64))
        fit = {
            "output": lambda W=near_W: output_dropout(task.X, task.Y, W),
            "input": lambda W=near_W: input_dropout(task.X, task.Y, W),
            "bottleneck": lambda Z=near_Z: replace(best.fit, Z=best.fit.Z + Z),
        }[placement]()
        assert expected_loss(fit, 0.8) > least
    assert torch.linalg.matrix_rank(best.W) == (R if placement == "bottleneck" else D)


def test_closed_forms_agree_with_all_masks(content):
    for errors in content["enumeration"].values():
        assert max(errors.values()) < 1e-12


def test_whitened_output_and_input_dropout_are_ridges_and_the_others_are_not(content):
    white, plain = cases(content, "whitened"), cases(content, "not_whitened")
    for placement in ("output", "input"):
        assert white[placement]["shrinkage"]["distance"] < 1e-3
        assert white[placement]["shrinkage"]["lam"] == pytest.approx(24 / 9, rel=1e-3)
        assert plain[placement]["shrinkage"]["distance"] > 0.05
    for case in (white, plain):
        assert case["bottleneck"]["shrinkage"]["distance"] > 0.25


def test_output_dropout_keeps_one_share_and_input_dropout_more_of_what_is_large(content):
    plain = cases(content, "not_whitened")
    assert plain["output"]["shrinkage"]["shares"] == pytest.approx([0.9] * D)
    shares = plain["input"]["shrinkage"]["shares"]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.9 > shares[-1]


def test_a_rank_alone_keeps_the_bottleneck_from_a_ridge():
    task = dropout_task(is_whitened=False)
    for placement in PLACEMENTS:
        found = shrinkage(task, optimum(task, placement, 1.0), placement)
        assert found["distance"] == found["rank_alone"]
        assert (found["distance"] > 0.1) == (placement == "bottleneck")


def test_samples_lie_on_the_normal_limit_and_below_the_bound(content):
    found = content["sampled"]
    for n, error, standard_error in zip(
        found["sizes"], found["errors"], found["standard_errors"], strict=True
    ):
        assert error < found["std"] / n**0.5
        if n >= 30:
            assert abs(error - NORMAL_FACTOR * found["std"] / n**0.5) < 4 * standard_error


def test_what_dropout_adds_and_its_noise_are_those_of_the_loss_at_the_optimum():
    task = dropout_task(is_whitened=False)
    for placement in PLACEMENTS:
        fit = optimum(task, placement, 0.8).fit
        found = dropout_case(placement=placement, keep=0.8, is_whitened=False)["fixed"]
        assert found["expectation"] - plain_loss(fit).item() == pytest.approx(found["added"])
        assert found["std"] ** 2 == pytest.approx(loss_variance(fit, 0.8).item())


def test_the_appendix_line_is_put_right(content):
    line = content["appendix"]
    assert line["printed"] < 0
    assert line["corrected"] == pytest.approx(line["variance_over_n"], rel=1e-9)


def test_at_LoRAs_start_the_loss_does_not_depend_on_the_mask(content):
    std = content["std_from_zero"]["std"]
    assert std[0] == 0
    assert std == sorted(std)


def test_noise_leads_in_the_first_steps_and_ends_at_a_floor(content):
    for case in cases(content, "not_whitened").values():
        moving = case["moving"]
        ratios = [s / e for s, e in zip(moving["spread"], moving["effect"], strict=True)]
        assert ratios[0] > 10
        assert ratios[-1] < 0.2
        assert ratios == sorted(ratios, reverse=True)
        fixed = case["fixed"]["std"] / case["fixed"]["added"] / STEPS[-1] ** 0.5
        assert ratios[-1] > 5 * fixed  # W held fixed promises far less noise


def test_the_learning_rate_is_in_units_of_the_features_of_what_learns():
    for placement in PLACEMENTS:
        task = dropout_task(is_whitened=False)
        best = optimum(task, placement, 0.9)
        run = moving_W(task, best, placement, 0.9, steps=(2,), step_size=STEP_SIZE)
        width = R if placement == "bottleneck" else D
        gram = best.design.T @ best.design
        assert run["lr"] * gram.trace().item() / width == pytest.approx(STEP_SIZE)


def test_two_things_fall_as_one_over_a_root(content):
    timed, runs = content["fixed_time"], content["averaged_runs"]
    for n, ratio in zip(timed["steps"], timed["ratios"], strict=True):
        assert ratio == pytest.approx(
            timed["ratios"][-1] * (timed["steps"][-1] / n) ** 0.5, rel=0.05
        )
    assert runs["ratios"][0] == pytest.approx(runs["one"], rel=0.03)
    for size, ratio in zip(runs["groups"], runs["ratios"], strict=True):
        # a mean over 1024/P groups of about D·C/2 free entries
        tolerance = 4 / (2 * (1024 / size) * D * C / 4) ** 0.5
        assert ratio == pytest.approx(runs["one"] / size**0.5, rel=max(tolerance, 0.03))


def test_with_both_factors_the_mean_run_is_another_path(content):
    joint = content["joint_bias"]
    assert joint["bias"] > 10 * joint["standard_error"]
    assert 0.05 < joint["bias"] / joint["effect"] < 0.3


def test_a_case_is_computed_once():
    setting = {"placement": "output", "keep": 0.8, "is_whitened": True}
    case = dropout_case(**setting)
    assert case is dropout_case(**setting)
    assert case["fixed"]["sizes"] == list(SIZES)


def test_the_findings_carry_the_numbers(content):
    words = " ".join(findings(content))
    assert words == " ".join(content["sentences"])
    sampled = content["sampled"]
    assert f"{sampled['errors'][4] / (sampled['std'] / 10):.3f} of Std/√N" in words
    assert "whitened output 0.000" in words
    changed = copy.deepcopy(content)
    changed["cases"]["input"]["not_whitened"]["shrinkage"]["distance"] = 0.777
    changed["std_from_zero"]["std"][0] = 5.0
    words = " ".join(findings(changed))
    assert "input 0.777." in words
    alone = content["cases"]["bottleneck"]["whitened"]["shrinkage"]["rank_alone"]
    assert f"without dropout, makes {alone:.3f}" in words
    assert "the Std is 5," in words


def test_an_unknown_placement_is_refused():
    with pytest.raises(ValueError, match="did you mean 'bottleneck'"):
        dropout_case(placement="botleneck", keep=0.5, is_whitened=True)
