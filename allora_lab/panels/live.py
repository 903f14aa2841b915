"""A run in the background of a notebook: progress, time left, Stop, and what it has traced."""

import copy
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets

from allora_lab.config import RunConfig
from allora_lab.experiments.records import RunRecord
from allora_lab.experiments.runner import run
from allora_lab.panels.picture import Caption
from allora_lab.training.checkpoint import Progress


def _measured(trace: Mapping[str, Any]) -> tuple[int, ...]:
    """Return how often norms were measured and ranks moved in a trace."""
    moved = (trace.get(key, {}).get("step", ()) for key in ("rank_norms", "allocation"))
    return len(trace.get("step", ())), *map(len, moved)


class LiveRun(widgets.HBox):
    """Run, Stop, a progress bar and the time left; one run at a time, in a thread of its own.

    Parameters
    ----------
    config_now
        Gives the configuration to run when Run is pressed.
    on_progress
        Called, from the run's thread, whenever there is something new to draw.

    Attributes
    ----------
    config, trace, record, problem
        Of the last run: what was run, its trace so far, its record once it has finished, and the
        sentence that says why it ended early.
    """

    def __init__(
        self, config_now: Callable[[], RunConfig], on_progress: Callable[[], None]
    ) -> None:
        self.config: RunConfig | None = None
        self.trace: dict[str, Any] = {}
        self.record: RunRecord | None = None
        self.problem = ""
        self.button = widgets.Button(
            description="Run it live", button_style="primary", tooltip="train this setting now"
        )
        self.stop = widgets.Button(description="Stop", disabled=True, tooltip="end the live run")
        self.bar = widgets.IntProgress(value=0, min=0, max=1, layout=widgets.Layout(width="14em"))
        self.status = Caption()
        self._config_now, self._on_progress = config_now, on_progress
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
        self.config, self.trace, self.record, self.problem = None, {}, None, ""
        self.bar.value, self.status.value = 0, ""

    def _on_stop(self, _button: object) -> None:
        self._stopping.set()
        self.status.value = "stopping after this step ..."

    def _on_run(self, _button: object) -> None:
        self.clear()
        self._stopping.clear()
        self.config = self._config_now()
        self.bar.max = self.config.steps
        self.status.value = "loading the model ..."
        self.button.disabled, self.stop.disabled = True, False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        started = time.perf_counter()

        def on_step(progress: Progress) -> None:
            has_news = _measured(self.trace) != _measured(progress.trace)
            self.trace = copy.deepcopy({k: v for k, v in progress.trace.items() if k != "layers"})
            seconds = (time.perf_counter() - started) / progress.done
            left = seconds * (self.bar.max - progress.done)
            self.bar.value = progress.done
            self.status.value = (
                f"step {progress.done} of {self.bar.max}, loss {self.trace['loss'][-1]:.3f}, "
                f"about {left:.0f} s left"
            )
            if has_news:
                self._on_progress()

        try:
            self.record = run(self.config, on_step=on_step, should_stop=self._stopping.is_set)
        except (ValueError, OSError, ArithmeticError) as error:
            self.problem = str(error)
        self.status.value = self.problem or ("finished" if self.record else "stopped")
        self.button.disabled, self.stop.disabled = False, True
        self._on_progress()
