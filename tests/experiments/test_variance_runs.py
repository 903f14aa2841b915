"""Runs of the gradient-variance study on small synthetic images: training, records, findings."""

import json
import math
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from allora_lab.data.images import ImageDataset
from allora_lab.experiments import gradient_variance
from allora_lab.experiments.gradient_variance import (
    gradient_variance_content,
    main,
    pending,
    record_all,
)
from allora_lab.experiments.variance_config import (
    BATCHES,
    DROPOUTS,
    WIDTHS,
    VarianceConfig,
    live_config,
    main_configs,
    recorded_as,
    sweep_configs,
)
from allora_lab.experiments.variance_findings import change_of, sentences_of, verdict
from allora_lab.experiments.variance_pixels import Pixels, measured_rows
from allora_lab.experiments.variance_records import (
    FOLDER,
    read_variance_record,
    variance_record_path,
    write_variance_record,
)
from allora_lab.experiments.variance_runs import run_variance
from allora_lab.experiments.variance_summary import LOG10_EDGES, summarise
from allora_lab.files import results_folder
from allora_lab.models.mlp import MLP
from allora_lab.theory.streaming_moments import Moments

SHORT = {"width": 24, "epochs": 2, "n_masks": 40, "train_batch": 20, "lr": 0.05}
CONFIG = VarianceConfig(dataset="mnist5k", batches=(16, 48), **SHORT)


@pytest.fixture(scope="session")
def small_set():
    """Return 300 pictures of 6 x 6: the label is the bright one of ten pixels, all under noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 400).astype(np.uint8)
    pixels = rng.integers(0, 60, (400, 36)).astype(np.uint8)
    pixels[np.arange(400), 2 * labels] += 180
    parts = (pixels[:300], labels[:300], pixels[300:], labels[300:])
    return ImageDataset("mnist5k", *parts, "made for a test", "0" * 64, "synthetic")


@pytest.fixture(scope="session")
def record(small_set):
    return run_variance(CONFIG, data=small_set)


@pytest.fixture
def own_results(tmp_path, monkeypatch, small_set):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    monkeypatch.setattr(gradient_variance, "load_images", lambda _key: small_set)
    return tmp_path / FOLDER


def without_clock(record):
    return replace(record, seconds=0, finished_at="")


def test_a_run_repeats_itself_exactly_and_another_seed_does_not(record, small_set):
    torch.manual_seed(77)
    again = run_variance(CONFIG, data=small_set)
    assert without_clock(again) == without_clock(record)
    other = run_variance(CONFIG.with_changes(seed=1), data=small_set)
    assert other.column("mean", 16) != record.column("mean", 16)


def test_every_epoch_is_measured_from_before_training_on(record):
    assert [row["epoch"] for row in record.epochs] == [0, 1, 2]
    assert record.epochs[0]["train_loss"] is None
    assert all(row["train_loss"] > 0 for row in record.epochs[1:])
    assert set(record.epochs[0]["spread"]) == {"16", "48"}


def test_training_learns_what_can_be_learned(small_set):
    config = CONFIG.with_changes(epochs=12, n_masks=2, dropout=0.2)
    rows = run_variance(config, data=small_set).epochs
    assert rows[0]["test_accuracy"] < 0.35
    assert rows[-1]["test_accuracy"] > 0.9
    assert rows[-1]["train_loss"] < 0.5 * rows[1]["train_loss"]


def test_epoch_0_is_what_a_loop_of_autograd_over_nn_dropout_finds(small_set):
    """The obvious way: one forward and backward pass a mask through the model itself."""
    n_masks, size = 600, 48
    config = CONFIG.with_changes(n_masks=n_masks, dropout=0.3)
    found = run_variance(config, data=small_set).epochs[0]["spread"][str(size)]

    pixels = Pixels.of(small_set, None, torch.device("cpu"))
    generator = torch.Generator().manual_seed(config.seed)
    model = MLP(36, config.width, 10, config.dropout, generator).train()
    rows = measured_rows(300, size, config.seed)
    torch.manual_seed(5)
    gradients = []
    for _ in range(n_masks):
        model.zero_grad()
        F.cross_entropy(model(pixels.train[rows]), pixels.train_labels[rows]).backward()
        gradients.append(model.layer2.weight.grad.clone())
    moments = Moments.of_stack(torch.stack(gradients))
    expected = summarise(moments)
    # a std over M masks has a standard error of about 1/√(2M); hundreds of entries share the masks
    for name in ("mean", "rms", "q50", "q90"):
        assert found[name] == pytest.approx(expected[name], rel=4 / (2 * n_masks) ** 0.5 / 2)
    assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=0.1)
    assert found["loss"] == pytest.approx(
        F.cross_entropy(model.eval()(pixels.train[rows]), pixels.train_labels[rows]).item(),
        rel=1e-5,
    )


def test_more_images_in_the_mini_batch_mean_less_spread(record):
    ratio = record.column("mean", 16)[0] / record.column("mean", 48)[0]
    assert ratio == pytest.approx(math.sqrt(48 / 16), rel=0.2)


def test_a_stopped_run_gives_no_record(small_set):
    asked = iter(range(10**6))
    assert run_variance(CONFIG, data=small_set, should_stop=lambda: next(asked) == 7) is None


def test_progress_goes_from_0_to_1_and_hands_over_every_epoch(small_set):
    shares, measured = [], []
    run_variance(
        CONFIG,
        data=small_set,
        on_progress=lambda p: (shares.append(p.share), measured.append(len(p.epochs))),
    )
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert sorted(set(measured)) == [0, 1, 2, 3]


def test_too_many_training_images_are_refused(small_set):
    with pytest.raises(ValueError, match="train_size is 301, but mnist5k has 300"):
        run_variance(CONFIG.with_changes(train_size=301), data=small_set)


def test_training_images_are_taken_evenly_over_the_set(small_set):
    some = Pixels.of(small_set, 100, torch.device("cpu"))
    every = Pixels.of(small_set, None, torch.device("cpu"))
    assert torch.equal(some.train[0], every.train[0])
    assert torch.equal(some.train[-1], every.train[-1])
    assert len(some.train) == 100
    assert abs(every.train.mean()) < 1e-5
    assert every.train.std() == pytest.approx(1, abs=1e-3)


def test_the_measured_images_are_a_draw_of_the_seed_and_smaller_batches_are_its_start():
    rows = measured_rows(300, 48, seed=0)
    assert len(set(rows.tolist())) == 48
    assert max(rows) > 100  # from all over the set
    assert torch.equal(measured_rows(300, 16, seed=0), rows[:16])
    assert not torch.equal(measured_rows(300, 48, seed=1), rows)


def test_a_loss_that_is_not_finite_ends_the_run_with_advice(small_set):
    with pytest.raises(ArithmeticError, match="lower lr"):
        run_variance(CONFIG.with_changes(lr=1e30), data=small_set)


def test_summary_by_hand():
    arrays = torch.tensor([[0.0, 1.0, 5.0], [2.0, 1.0, 11.0]], dtype=torch.float64)
    summary = summarise(Moments.of_stack(arrays))
    # means 1, 1, 8; variances 2, 0, 18
    assert summary["mean"] == pytest.approx((2**0.5 + 18**0.5) / 3, rel=1e-5)
    assert summary["max"] == pytest.approx(18**0.5, rel=1e-5)
    assert summary["rms"] == pytest.approx((20 / 3) ** 0.5, rel=1e-5)
    assert summary["q50"] == pytest.approx(2**0.5, rel=1e-5)
    assert summary["zeros"] == pytest.approx(1 / 3, rel=1e-5)
    assert summary["gradient_norm"] == pytest.approx((1 + 1 + 64 - 20 / 2) ** 0.5, rel=1e-5)
    assert summary["signal_to_noise"] == pytest.approx((56 / 20) ** 0.5, rel=1e-5)
    assert summary["relative_median"] == pytest.approx(18**0.5 / 8, rel=1e-5)
    counts = summary["histogram"]
    assert sum(counts) == 2
    first, second = np.searchsorted(LOG10_EDGES, np.log10([2**0.5, 18**0.5])) - 1
    assert counts[first] == counts[second] == 1


def test_pure_noise_has_no_signal(rng):
    noise = torch.randn(400, 30, 20, generator=rng, dtype=torch.float64)
    assert summarise(Moments.of_stack(noise))["signal_to_noise"] < 0.02


def test_a_record_comes_back_from_its_file_as_it_was(record, tmp_path):
    write_variance_record(tmp_path / "r.json", record)
    assert read_variance_record(tmp_path / "r.json") == record
    assert record.dataset_note == "synthetic"
    assert record.packages["torch"] == version("torch")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["config"].update(lr=0.5), "was edited"),
        (lambda v: v.pop("device"), "not a record of this version"),
        (lambda v: v["epochs"].pop(), "lacks an epoch or a batch size"),
        (lambda v: v["epochs"][1]["spread"].pop("16"), "lacks an epoch or a batch size"),
        (lambda v: v["epochs"][1].pop("epoch"), "lacks an epoch or a batch size"),
        (lambda v: v["config"].update(lr="x"), "lr must be a number"),
        (lambda v: v["config"].update(widht=3), "did you mean 'width'"),
        (lambda v: v["config"].pop("dataset"), "no image set is named"),
    ],
)
def test_an_edited_record_is_refused(record, tmp_path, change, message):
    path = tmp_path / "r.json"
    write_variance_record(path, record)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        read_variance_record(path)


def test_a_truncated_record_is_refused(record, tmp_path):
    path = tmp_path / "r.json"
    write_variance_record(path, record)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match="is not JSON"):
        read_variance_record(path)


def test_what_is_recorded_is_not_run_again_and_a_stop_keeps_what_is_done(own_results):
    configs = [CONFIG.with_changes(seed=seed, epochs=1) for seed in (3, 4, 5)]
    started = []

    def on_run(index, total, config):
        started.append((index, total, config.seed))
        return lambda _progress: None

    assert record_all(configs, on_run=on_run, should_stop=lambda: len(started) == 2) == 1
    assert [c.seed for c in pending(configs)] == [4, 5]
    assert record_all(configs, on_run=on_run) == 2
    assert record_all(configs, on_run=on_run) == 0
    assert started == [(0, 3, 3), (1, 3, 4), (0, 2, 4), (1, 2, 5)]
    names = {path.name for path in own_results.iterdir()}
    assert names == {f"{config.run_id}.json" for config in configs}


def test_the_command_records_what_is_missing_and_says_so(own_results, monkeypatch, capsys):
    configs = [CONFIG.with_changes(seed=9, epochs=1)]
    monkeypatch.setattr(gradient_variance, "main_configs", lambda: configs)
    monkeypatch.setattr(gradient_variance, "sweep_configs", list)
    main([])
    assert "1 runs recorded now, 0 of 1 missing" in capsys.readouterr().out
    assert len(list(own_results.iterdir())) == 1


def test_the_command_ends_with_the_sentence_of_what_is_missing(own_results, monkeypatch):
    def refuse(_key):
        raise ConnectionError("cifar10 is not here: do this")

    monkeypatch.setattr(gradient_variance, "load_images", refuse)
    with pytest.raises(SystemExit, match="cifar10 is not here: do this"):
        main(["--figure-only"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "mnits"}, "did you mean 'mnist'"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"dropout": 0.0}, "dropout must be a finite number above 0"),
        ({"batches": ()}, "batches is empty"),
        ({"batches": (0,)}, "a batch must be at least 1"),
        ({"n_masks": 1}, "n_masks must be at least 2"),
        ({"lr": 0.0}, "lr must be"),
        ({"momentum": 1.0}, "momentum must be"),
        ({"train_size": 47}, "train_size must be at least 48"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"width": 0}, "width must be at least 1"),
    ],
)
def test_a_wrong_setting_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        CONFIG.with_changes(**change)


def test_every_setting_of_the_panel_is_in_a_recorded_run():
    every = [*main_configs(), *sweep_configs()]
    ids = [config.run_id for config in every]
    assert len(set(ids)) == len(ids) == 10 + 12
    for dataset in ("mnist", "cifar10"):
        for dropout in DROPOUTS:
            for batch in BATCHES:
                for width in WIDTHS:
                    found = recorded_as(dataset=dataset, dropout=dropout, batch=batch, width=width)
                    assert found.run_id in ids
                    assert (found.dataset, found.dropout) == (dataset, dropout)
                    assert batch in found.batches
                    assert found.width == width


def test_a_live_run_is_small_and_of_the_setting_asked_for():
    config = live_config(dataset="cifar10", dropout=0.2, batch=32, width=128)
    assert (config.dataset, config.dropout, config.batches) == ("cifar10", 0.2, (32,))
    assert (config.width, config.epochs, config.train_size) == (128, 5, 4000)


def test_a_change_is_the_geometric_mean_and_its_t_interval():
    change = change_of([2.0, 8.0, 4.0])
    half = stats.t.ppf(0.975, 2) * np.std(np.log([2, 8, 4]), ddof=1) / 3**0.5
    assert change.factor == pytest.approx(4, rel=1e-5)
    assert change.low == pytest.approx(4 * math.exp(-half), rel=1e-5)
    assert change.high == pytest.approx(4 * math.exp(half), rel=1e-5)
    assert change.direction == "stays"
    assert change_of([0.5, 0.52, 0.51]).direction == "falls"
    assert change_of([1.5, 1.52, 1.51]).direction == "rises"


def test_factors_of_zero_have_no_logarithm():
    with pytest.raises(ValueError, match="factors must be above 0"):
        change_of([1.0, 0.0])


def scaled(record, mean, worst):
    """Return a record whose last epoch's mean and largest std are these times its first's."""
    values = json.loads(json.dumps(record.epochs))
    for name, factor in (("mean", mean), ("max", worst), ("rms", 3.0)):
        values[-1]["spread"]["16"][name] = factor * values[0]["spread"]["16"][name]
    return replace(record, epochs=values)


@pytest.mark.parametrize(
    ("mean", "worst", "words"),
    [
        (0.9, 2.0, "the average decreases, as the paper says, and the worst case increases, as"),
        (1.9, 2.0, "average increases, where the paper says it decreases, but the worst case incr"),
        (0.9, 0.5, "decreases, as the paper says, but the worst case decreases, where the paper"),
        (1.9, 0.5, "the average increases, where the paper says it decreases, and the worst"),
    ],
)
def test_sentences_follow_the_numbers(record, mean, worst, words):
    records = [scaled(record, mean * f, worst * f) for f in (0.99, 1.0, 1.01)]
    said = sentences_of("X", records, 16)
    assert said[0].startswith("X, from the start to epoch 2, 3 seeds:")
    assert words in said[0]
    assert f"to {mean:.3g} times" in said[0]
    assert f"to {worst:.3g} times" in said[0]
    assert said[1].startswith("X, from epoch 1 to epoch 2")
    assert "mean over entries of the variance rises to 9 times" in said[2]
    ratios = [r.column("signal_to_noise", 16)[-1] for r in records]
    assert said[2].endswith(f"after one epoch to {sum(ratios) / 3:.2g}.")


def test_chance_is_called_chance():
    flat, up = change_of([0.9, 1.1, 1.0]), change_of([2.0, 2.1, 2.2])
    assert "neither decreases nor increases beyond chance, but" in verdict(flat, up)


def test_the_content_is_json_and_its_curves_are_means_over_seeds(own_results, monkeypatch):
    monkeypatch.setattr(gradient_variance, "DATASETS", ("mnist5k",))
    configs = [CONFIG.with_changes(seed=seed) for seed in (0, 1, 2)]
    record_all(configs)
    content = gradient_variance_content(configs)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    (row,) = content["datasets"]
    records = [read_variance_record(variance_record_path(config)) for config in configs]
    by_hand = [sum(r.column("q90", 16)[e] for r in records) / 3 for e in range(3)]
    assert row["curves"]["q90"] == pytest.approx(by_hand)
    assert row["seeds"] == [0, 1, 2]
    change = row["changes_since_start"]["max"][-1]
    factors = [r.column("max", 16)[2] / r.column("max", 16)[0] for r in records]
    assert change["factor"] == pytest.approx(math.prod(factors) ** (1 / 3), rel=1e-5)
    assert content["sentences"] == row["sentences"]


def test_without_a_record_the_content_says_how_to_make_one(own_results):
    assert gradient_variance.recorded_configs() == []
    with pytest.raises(ValueError, match="record them with `python -m allora_lab"):
        gradient_variance_content(gradient_variance.recorded_configs())


def test_an_image_set_with_one_recorded_seed_is_left_out(own_results, record):
    for config in main_configs():
        if config.dataset == "mnist" or config.seed == 3:
            path = variance_record_path(config)
            path.parent.mkdir(exist_ok=True)
            path.write_text("")
    found = gradient_variance.recorded_configs()
    assert [(c.dataset, c.seed) for c in found] == [("mnist", seed) for seed in range(5)]


def test_fresh_content_runs_again_and_writes_nothing(own_results, monkeypatch):
    monkeypatch.setattr(gradient_variance, "DATASETS", ("mnist5k",))
    monkeypatch.setattr(
        gradient_variance,
        "run_variance",
        lambda config, **_: run_variance(config, data=gradient_variance.load_images("")),
    )
    configs = [CONFIG.with_changes(seed=seed, epochs=1) for seed in (0, 1)]
    own_results.mkdir()
    for config in configs:
        variance_record_path(config).write_text("spoilt")
    with pytest.raises(ValueError, match="is not JSON"):
        gradient_variance_content(configs)
    content = gradient_variance_content(configs, fresh=True)
    assert len(content["datasets"][0]["runs"]) == 2
    assert {path.read_text() for path in own_results.iterdir()} == {"spoilt"}


def test_all_committed_records_are_valid():
    for path in sorted((results_folder() / FOLDER).glob("*.json")):
        assert path.stem == read_variance_record(path).run_id
