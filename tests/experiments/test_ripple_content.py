"""The numbers of the figure, the recorded real model, and a short measurement of it."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch

from allora_lab.adapters.inject import adapted_layers
from allora_lab.config import config_from
from allora_lab.data.batches import encode
from allora_lab.data.text import load_text
from allora_lab.experiments import ripple_model
from allora_lab.experiments.ripple import (
    DEEPEST,
    WIDTH,
    layer_bound,
    model_rows,
    random_law,
    ripple_case,
    ripple_content,
    ripple_curves,
    ripple_sentences,
)
from allora_lab.experiments.ripple_model import forward, set_scaling
from allora_lab.experiments.ripple_records import (
    QUANTILES,
    SCALINGS,
    SEEDS,
    read_ripple,
    recorded_ripples,
    ripple_config,
    ripple_path,
    write_ripple,
)
from allora_lab.experiments.runner import build_adapted, fine_tune
from allora_lab.theory.ripple import ARCHITECTURES
from allora_lab.training.evaluate import evaluate

SHORT = {"steps": 3, "eval_size": 16, "train_size": 64, "max_length": 24}
CONFIG = ripple_config(0, **SHORT)
AT = {"scaling": 2.0, "ratio": 0.3}


@pytest.fixture(scope="module")
def content():
    return ripple_content()


@pytest.fixture(scope="module")
def tuned():
    loaded = build_adapted(CONFIG, num_labels=2)
    fine_tune(CONFIG, loaded, load_text(CONFIG.dataset))
    return loaded


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Let `record_all` measure the short run, and read what it wrote."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLORA_LAB_RESULTS", str(tmp_path_factory.mktemp("results")))
        patch.setattr(ripple_model, "SEEDS", (0,))
        patch.setattr(ripple_model, "ripple_config", lambda seed: CONFIG)
        ripple_model.record_all()
        return read_ripple(ripple_path(CONFIG))


def test_the_content_is_json_and_repeats_itself(content):
    assert json.loads(json.dumps(content)) == content
    assert ripple_content() == content


def test_the_paper_s_numbers_random_directions_grow_a_fifth_where_the_bound_is_79_thousand(content):
    found = content["stacks"]["multi-linear"]
    assert found["bound"][-1] == pytest.approx(1.6**24)
    assert found["aligned"][-1] == pytest.approx(1.6**24)
    assert 1.1 < found["random"][-1] < 1.25
    assert found["law"][-1] == pytest.approx(1.195, abs=0.01)


def test_the_law_is_the_root_of_the_product_of_one_plus_squares():
    case = ripple_case()
    q = torch.linalg.matrix_norm(case.B @ case.A).square().mean(dim=0) / WIDTH
    expected = math.prod((1 + (0.3 * 2.0) ** 2 * q).tolist()) ** 0.5
    assert random_law(case, "multi-linear", **AT)[DEEPEST] == pytest.approx(expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_curve_passes_the_bound_at_any_depth_or_alignment(architecture):
    for alignment in (0.0, 0.5, 1.0):
        found = ripple_curves(ripple_case(), architecture, alignment=alignment, **AT)
        for name in ("aligned", "random"):
            pairs = zip(found[name], found["bound"], strict=True)
            assert all(value <= bound * (1 + 1e-9) for value, bound in pairs)


def test_without_scaling_nothing_grows_or_moves():
    found = ripple_curves(ripple_case(), "residual", scaling=0.0, ratio=0.3, alignment=1.0)
    assert found["aligned"] == found["random"] == [1.0] * (DEEPEST + 1)
    assert found["aligned_change"] == found["random_change"] == [0.0] * (DEEPEST + 1)


def test_every_seed_is_recorded_and_its_records_are_whole():
    records = recorded_ripples()
    assert [record.config["seed"] for record in records] == list(SEEDS)
    for record in records:
        assert config_from(record.config) == ripple_config(record.config["seed"])
        assert len(record.adapters) == 12
        first = record.scaled[0]
        assert first["growth"]["mean"] == [1.0] * 7
        assert first["change"]["mean"] == [0.0] * 7


def test_in_the_recorded_model_growth_stays_far_below_the_bound(content):
    rows = {row["scaling"]: row for row in content["model"]}
    assert set(rows) == set(SCALINGS)
    assert rows[1.0]["growth"][-1] < 0.2 * rows[1.0]["bound"][-1]
    assert rows[16.0]["growth"][-1] < 1e-6 * rows[16.0]["bound"][-1]


def test_the_bound_of_a_record_multiplies_both_matrices_of_a_layer():
    row = {"weight_norm": 2.0, "adapter_norm": 1.0}
    adapters = {"0.query": row, "0.value": row, "1.query": row, "1.value": row}
    scaled = [{"growth": {"mean": [1.0, 1.0, 1.0]}}]
    record = replace(recorded_ripples()[0], adapters=adapters, scaled=scaled)
    assert layer_bound(record, 2.0) == pytest.approx([1, 4, 16])


def test_rows_are_means_over_the_seeds():
    records = recorded_ripples()[:2]
    row = model_rows(records)[-1]
    ends = [record.scaled[-1]["growth"]["mean"][-1] for record in records]
    assert row["growth"][-1] == pytest.approx(sum(ends) / 2)
    assert row["accuracies"] == [record.scaled[-1]["accuracy"] for record in records]
    highs = [r.scaled[-1]["change"]["quantiles"][-1][QUANTILES.index(0.95)] for r in records]
    assert row["change_high"][-1] == pytest.approx(sum(highs) / 2)


def test_sentences_follow_the_numbers_and_do_without_a_model(content):
    words = ripple_sentences(content)
    assert "the bound is 7.92e+04" in words[0]
    accuracies = content["model"][-1]["accuracies"]
    assert f"accuracy is {sum(accuracies) / len(accuracies):.3f}" in words[2]
    assert len(ripple_sentences({**content, "model": []})) == 2


def test_scaling_by_zero_is_the_pretrained_model_and_scaling_by_s_is_a_merge_of_s_BA(tuned):
    data = encode(tuned.tokenizer, load_text(CONFIG.dataset).dev.first(16), CONFIG.max_length)
    layers = adapted_layers(tuned.model)
    scaled = forward(tuned.model, data, 4.0).states
    weights = {name: layer.base_layer.weight.detach().clone() for name, layer in layers.items()}
    with torch.no_grad():
        for layer in layers.values():
            layer.base_layer.weight += 4.0 * layer.lora_B @ layer.lora_A
    merged = forward(tuned.model, data, 0.0).states
    with torch.no_grad():
        for name, layer in layers.items():
            layer.base_layer.weight.copy_(weights[name])
    torch.testing.assert_close(scaled, merged, rtol=1e-4, atol=1e-5)
    assert (forward(tuned.model, data, 0.0).states - merged).norm() > 1e-3 * merged.norm()


def test_padding_is_left_out_and_the_accuracy_is_the_evaluator_s(tuned):
    data = encode(tuned.tokenizer, load_text(CONFIG.dataset).dev.first(16), CONFIG.max_length)
    done = forward(tuned.model, data, 2.0)
    assert done.states.shape == (sum(data.lengths), 7, 384)
    set_scaling(tuned.model, 2.0)
    assert (done.logits.argmax(-1) == done.labels).double().mean() == pytest.approx(
        evaluate(tuned.model, data)["accuracy"]
    )


def test_what_is_measured_is_recorded_and_read_whole(record, tmp_path):
    path = tmp_path / "record.json"
    write_ripple(record, path)
    assert read_ripple(path) == record
    assert record.tokens > record.sentences == 16
    layer = next(iter(record.adapters.values()))
    assert 0 < layer["used_ratio"] < layer["adapter_norm"]
    assert 0 < layer["adapter_norm"] <= layer["adapter_frobenius"]


def test_used_ratio_and_cosine_of_one_matrix_by_hand():
    W = torch.diag(torch.tensor([2.0, 1.0]))
    BA = torch.tensor([[0.0, 0.0], [0.5, 0.0]])
    z = torch.tensor([[1.0, 0.0], [1.0, 1.0]])  # W z = (2, 0), (2, 1);  BA z = (0, 0.5) twice
    row = ripple_model._adapter_row(W, BA, z)
    assert row["used_ratio"].item() == pytest.approx((0.25 + 0.5 / 5**0.5) / 2)
    assert row["cosine"].item() == pytest.approx((0 + 1 / 5**0.5) / 2)
    assert row["weight_norm"].item() == pytest.approx(2)
    assert row["adapter_norm"].item() == pytest.approx(0.5)


def edited(change):
    def edit(values):
        change(values)
        return values

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (edited(lambda v: v.pop("tokens")), "tokens"),
        (edited(lambda v: v["config"].update(lr=0.5)), "was edited"),
        (edited(lambda v: v["scaled"].pop()), "lacks a scaling or a depth"),
        (edited(lambda v: v["scaled"][2]["change"]["mean"].pop()), "lacks a scaling or a depth"),
    ],
)
def test_a_damaged_record_is_refused(record, tmp_path, edit, words):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(edit(json.loads(json.dumps(asdict(record))))))
    with pytest.raises(ValueError, match=words):
        read_ripple(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        read_ripple(path)
