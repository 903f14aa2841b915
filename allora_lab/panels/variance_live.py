"""Measure now: train a small network in the background and measure its gradient as it learns."""

import threading
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from allora_lab.experiments.variance_config import VarianceConfig
from allora_lab.experiments.variance_progress import VarianceProgress
from allora_lab.experiments.variance_records import VarianceRecord
from allora_lab.experiments.variance_runs import run_variance
from allora_lab.panels.picture import Caption


class LiveVariance(widgets.HBox):
    """Measure now, Stop, a progress bar and the time left; one run at a time, in its own thread.

    Parameters
    ----------
    config_now
        Gives the configuration to run when Measure now is pressed.
    on_epoch
        Called, from the run's thread, when an epoch was measured and when the run has ended.

    Attributes
    ----------
    config, epochs, record, problem
        Of the last run: what was run, the epochs measured so far, its record once it has finished,
        and the sentence that says why it could not.
    """

    def __init__(
        self, config_now: Callable[[], VarianceConfig], on_epoch: Callable[[], None]
    ) -> None:
        self.config: VarianceConfig | None = None
        self.epochs: list[dict[str, Any]] = []
        self.record: VarianceRecord | None = None
        self.problem = ""
        self.button = widgets.Button(
            description="Measure now", button_style="primary", tooltip="train and measure a network"
        )
        self.stop = widgets.Button(description="Stop", disabled=True, tooltip="end the live run")
        self.bar = widgets.FloatProgress(
            value=0.0, min=0.0, max=1.0, layout=widgets.Layout(width="14em")
        )
        self.status = Caption()
        self._config_now, self._on_epoch = config_now, on_epoch
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        super().__init__([self.button, self.stop, self.bar, self.status])
        self.button.on_click(self._on_run)
        self.stop.on_click(self._on_stop)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the run has ended, or `timeout` seconds."""
        if self._thread:
            self._thread.join(timeout)

    def clear(self) -> None:
        """Stop a run that is under way and forget the last one."""
        self._stopping.set()
        self.wait()
        self.config, self.epochs, self.record, self.problem = None, [], None, ""
        self.bar.value, self.status.value = 0.0, ""

    def _on_stop(self, _button: object) -> None:
        self._stopping.set()
        self.status.value = "stopping ..."

    def _on_run(self, _button: object) -> None:
        self.clear()
        self._stopping.clear()
        self.config = self._config_now()
        self.status.value = "reading the images ..."
        self.button.disabled, self.stop.disabled = True, False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        def on_progress(progress: VarianceProgress) -> None:
            if len(progress.epochs) > len(self.epochs):
                self.epochs = list(progress.epochs)
                self._on_epoch()
            if progress.share - self.bar.value > 0.01 or progress.share == 1:
                self.bar.value = progress.share
                self.status.value = f"about {progress.seconds_left:.0f} s left"

        try:
            self.record = run_variance(
                self.config, on_progress=on_progress, should_stop=self._stopping.is_set
            )
        except (ValueError, OSError, ArithmeticError, ModuleNotFoundError) as error:
            self.problem = str(error)
        self.status.value = self.problem or ("finished" if self.record else "stopped")
        self.button.disabled, self.stop.disabled = False, True
        self._on_epoch()
