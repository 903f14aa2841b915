"""Panel of notebook 04: how far dropout masks move the gradient, recorded and live."""

from functools import lru_cache
from pathlib import Path

import ipywidgets as widgets
from matplotlib.figure import Figure

from allora_lab.experiments.variance_config import (
    BATCHES,
    DROPOUTS,
    WIDTHS,
    VarianceConfig,
    live_config,
    main_configs,
    recorded_as,
)
from allora_lab.experiments.variance_progress import VarianceProgress
from allora_lab.experiments.variance_records import (
    VarianceRecord,
    read_variance_record,
    variance_record_path,
)
from allora_lab.experiments.variance_runs import run_variance
from allora_lab.experiments.variance_summary import LOG10_EDGES, QUANTILE_NAMES
from allora_lab.panels.base import Panel, choice, menu
from allora_lab.panels.live import LivePanel, LiveRun, ShouldStop, Tell
from allora_lab.plots.style import lab_style
from allora_lab.plots.variance_panel import VarianceDrawing, VarianceView
from allora_lab.theory.gradient_variance import gradient_moments

NAMES = {"MNIST": "mnist", "CIFAR-10": "cifar10"}
LAST_EPOCH = main_configs()[0].epochs
NOTHING = VarianceView((), {}, ())


@lru_cache(maxsize=64)
def _read(path: Path, _modified: int) -> VarianceRecord:
    return read_variance_record(path)


def recorded(config: VarianceConfig) -> VarianceRecord | None:
    """Return the recorded run of a configuration, or None when there is none."""
    path = variance_record_path(config)
    return _read(path, path.stat().st_mtime_ns) if path.exists() else None


@lru_cache(maxsize=64)
def _view(path: Path, modified: int, batch: int) -> VarianceView:
    record = _read(path, modified)
    curves = {name: record.column(name, batch) for name in (*QUANTILE_NAMES, "mean", "max")}
    return VarianceView([row["epoch"] for row in record.epochs], curves, record.histograms(batch))


def measure_live(
    config: VarianceConfig, tell: Tell, should_stop: ShouldStop
) -> VarianceRecord | None:
    """Train and measure as `config` says; every epoch that was measured is news."""
    told, measured = 0.0, 0

    def on_progress(progress: VarianceProgress) -> None:
        nonlocal told, measured
        has_news = len(progress.epochs) > measured
        if has_news or progress.share > told + 0.01 or progress.share == 1:
            told, measured = progress.share, len(progress.epochs)
            words = f"epoch {min(measured, config.epochs)} of {config.epochs}"
            trace = {"epochs": list(progress.epochs)} if has_news else None
            tell(progress.share, 1, words, trace)

    return run_variance(config, on_progress=on_progress, should_stop=should_stop)


class GradientVariancePanel(LivePanel):
    """Image set, dropout, mini-batch, width and epoch; and "Measure now".

    Moving a control shows the recorded run of that setting at once.  `live_settings` changes what
    "Measure now" runs (fewer epochs, say).
    """

    def __init__(self, **live_settings: object) -> None:
        self.live_settings = live_settings
        self._drawing = VarianceDrawing(LAST_EPOCH, LOG10_EDGES.tolist())
        self.live = LiveRun(
            self._live_config,
            self._on_live,
            measure_live,
            label="Measure now",
            tip="train and measure a network",
        )
        self.panel = Panel(
            self._controls(), self._draw, computed_by=(gradient_moments, run_variance)
        )
        super().__init__()

    @staticmethod
    def _controls() -> dict[str, widgets.Widget]:
        return {
            "dataset": menu("images", NAMES, "mnist"),
            "dropout": choice("dropout, 1 − p", DROPOUTS, 0.5, "probability of dropping a unit"),
            "batch": choice("mini-batch", BATCHES, 128, "images whose mean gradient is measured"),
            "width": choice("width", WIDTHS, 512, "units of each hidden layer"),
            "epoch": choice("epoch", range(LAST_EPOCH + 1), LAST_EPOCH),
        }

    def _live_config(self) -> VarianceConfig:
        values = self.panel.values()
        values.pop("epoch")
        return live_config(**values).with_changes(**self.live_settings)

    def _draw(
        self, dataset: str, dropout: float, batch: int, width: int, epoch: int
    ) -> tuple[Figure, str]:
        config = recorded_as(dataset=dataset, dropout=dropout, batch=batch, width=width)
        record, view = recorded(config), NOTHING
        if record:
            path = variance_record_path(config)
            view = _view(path, path.stat().st_mtime_ns, batch)
        with lab_style():
            figure = self._drawing.update(view, epoch, self._live_curves())
        return figure, _caption(config, record, batch, epoch) + self._live_words()

    def _live_curves(self) -> dict[str, list[float]] | None:
        config, epochs = self.live.config, self.live.trace.get("epochs")
        if config is None or not epochs:
            return None
        spreads = [row["spread"][str(config.batches[0])] for row in epochs]
        return {
            "epoch": [row["epoch"] for row in epochs],
            **{name: [spread[name] for spread in spreads] for name in ("mean", "max")},
        }

    def _live_words(self) -> str:
        """Say what the live run was and found so far."""
        config, curves = self.live.config, self._live_curves()
        if config is None or curves is None:
            return ""
        size = f"{config.train_size:,}" if config.train_size else "all"
        mean, worst = curves["mean"], curves["max"]
        return (
            f"<br>Live (black dots): {config.dataset}, dropout {config.dropout:g}, mini-batch "
            f"{config.batches[0]}, width {config.width}, trained on {size} images, {config.n_masks} "
            f"masks. After {curves['epoch'][-1]} epochs the mean is {mean[-1] / mean[0]:.2f} times "
            f"and the largest {worst[-1] / worst[0]:.2f} times what it was at its start."
        )


def _caption(config: VarianceConfig, record: VarianceRecord | None, batch: int, epoch: int) -> str:
    """Return what the picture shows, in words."""
    name = (
        f"<b>{dict(zip(NAMES.values(), NAMES, strict=True))[config.dataset]}</b>, dropout "
        f"{config.dropout:g}, mini-batch of {batch}, width {config.width}"
    )
    if record is None:
        return (
            f"{name}: no run of this setting is recorded. Press <b>Measure now</b> to train a small "
            "network and measure it."
        )
    shown = min(epoch, config.epochs)
    end = "" if shown == epoch else f" (recorded to epoch {config.epochs})"
    row, start = (record.epochs[e]["spread"][str(batch)] for e in (shown, 0))
    note = f" The images are {record.dataset_note}." if record.dataset_note else ""
    return (
        f"{name}, after {shown} epoch{'' if shown == 1 else 's'}{end}, test accuracy "
        f"{100 * record.epochs[shown]['test_accuracy']:.1f} %: over {config.n_masks:,} masks an entry "
        f"of the gradient has a standard deviation of {row['mean']:.2e} on average, "
        f"{row['mean'] / start['mean']:.2f} times what it was at the start; the largest is "
        f"{row['max']:.2e}, {row['max'] / start['max']:.2f} times. The mean gradient is "
        f"{row['signal_to_noise']:.2f} times as large as the noise of one mask. One run, seed "
        f"{config.seed}, recorded on {record.device}.{note}"
    )
