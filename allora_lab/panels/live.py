"""A run in the background of a notebook: progress, time left, Stop, and what it has traced."""

import copy
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import ipywidgets as widgets

from allora_lab.config import RunConfig
from allora_lab.experiments.records import RunRecord
from allora_lab.experiments.runner import run
from allora_lab.panels.base import Panel
from allora_lab.panels.picture import Caption
from allora_lab.panels.tools import PANEL
from allora_lab.panels.turns import idle_threads, running_cell, turn
from allora_lab.training.checkpoint import Progress

EXPECTED = (ValueError, OSError, ArithmeticError, ModuleNotFoundError)  # their words say it all
Tell = Callable[..., None]  # tell(done, total, words, trace=None); a trace is news to draw
ShouldStop = Callable[[], bool]
_LIVE_RUNS: "weakref.WeakSet[LiveRun]" = weakref.WeakSet()


def _measured(trace: Mapping[str, Any]) -> tuple[int, ...]:
    """Return how often norms were measured and ranks moved in a trace."""
    moved = (trace.get(key, {}).get("step", ()) for key in ("rank_norms", "allocation"))
    return len(trace.get("step", ())), *map(len, moved)


def fine_tune_live(config: RunConfig, tell: Tell, should_stop: ShouldStop) -> RunRecord | None:
    """Make the run of a configuration; its trace is news whenever something was measured."""
    before: tuple[int, ...] = ()

    def on_step(progress: Progress) -> None:
        nonlocal before
        words = f"step {progress.done} of {config.steps}, loss {progress.trace['loss'][-1]:.3f}"
        has_news, before = before != (now := _measured(progress.trace)), now
        rest = {key: value for key, value in progress.trace.items() if key != "layers"}
        tell(progress.done, config.steps, words, copy.deepcopy(rest) if has_news else None)

    return run(config, on_step=on_step, should_stop=should_stop)


class LiveRun(widgets.HBox):
    """Run, Stop, a progress bar and the time left; one run at a time, in a thread of its own.

    When a cell is run again, the live runs that it made before are stopped; so is one that is closed.

    Parameters
    ----------
    config_now
        Gives the configuration to run when Run is pressed.
    on_news
        Called, from the run's thread, whenever there is something new to draw.
    work
        Makes the run: is given the configuration, `tell(done, total, words, trace=None)` to report
        with, and a function that says whether to stop; returns the record, or None if stopped.
    label, tip
        What the button says.

    Attributes
    ----------
    config, trace, record, problem
        Of the last run: what was run, its trace so far, its record once it has finished, and the
        sentence that says why it ended early.
    """

    def __init__(
        self,
        config_now: Callable[[], Any],
        on_news: Callable[[], None],
        work: Callable[[Any, Tell, ShouldStop], Any] = fine_tune_live,
        label: str = "Run it live",
        tip: str = "train this setting now",
    ) -> None:
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._config_now, self._on_news, self._work = config_now, on_news, work
        self.config: Any = None
        self.trace: dict[str, Any] = {}
        self.record: Any = None
        self.problem = ""
        self.button = widgets.Button(description=label, button_style="primary", tooltip=tip)
        self.stop = widgets.Button(description="Stop", disabled=True, tooltip="end the live run")
        self.bar = widgets.FloatProgress(
            value=0.0, min=0.0, max=1.0, layout=widgets.Layout(width="14em")
        )
        self.status = Caption()
        super().__init__([self.button, self.stop, self.bar, self.status])
        self.button.on_click(self._on_run)
        self.stop.on_click(self._on_stop)
        self._made_by = getattr(config_now, "__qualname__", ""), running_cell()
        for other in list(_LIVE_RUNS):
            if other._made_by == self._made_by:
                other._stopping.set()
        _LIVE_RUNS.add(self)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the run has ended, or `timeout` seconds."""
        if self._thread:
            self._thread.join(timeout)

    def clear(self) -> None:
        """Stop a run that is under way and forget the last one."""
        self._stopping.set()
        self.wait()
        self.config, self.trace, self.record, self.problem = None, {}, None, ""
        self._end()
        self.bar.value, self.status.value = 0.0, ""

    def close(self) -> None:
        """Stop a run that is under way and take the widget out of the page."""
        self._stopping.set()
        super().close()

    def _on_stop(self, _button: object) -> None:
        self._stopping.set()
        self.status.value = "stopping after this step ..."

    def _on_run(self, _button: object) -> None:
        self.clear()
        self._stopping.clear()
        self.button.disabled, self.stop.disabled = True, False
        with self._reporting():
            self.config = self._config_now()
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        with self._reporting():
            with turn(self._stopping.is_set, self._on_waiting) as is_ours:
                if is_ours:
                    self._make()
            self._on_news()
            self._end()

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Whatever is raised inside, say it in the status and leave a panel that can run again.

        An error that nobody expects is raised again, for its traceback to be shown.
        """
        try:
            yield
        except EXPECTED as error:
            self.problem = str(error) or type(error).__name__
        except BaseException as error:
            self.problem = f"the run failed with {type(error).__name__}: {error}".rstrip(": ")
            raise
        finally:
            if self.problem:
                self._end()

    def _on_waiting(self) -> None:
        self.status.value = "waiting for the other run ..."

    def _make(self) -> None:
        """Make the run, telling how far it is; the time left is counted from the first step on."""
        first: tuple[float, float] | None = None

        def tell(
            done: float, total: float, words: str, trace: Mapping[str, Any] | None = None
        ) -> None:
            nonlocal first
            now = perf_counter()
            started, start = first = first or (now, done)
            left = (total - done) * (now - started) / (done - start) if done > start else None
            self.bar.max, self.bar.value = float(total), float(done)
            if not self._stopping.is_set():
                self.status.value = f"{words}{_in_words(left)} ({at_once})"
            if trace is not None:
                self.trace = dict(trace)
                self._on_news()

        self.status.value = "loading ..."
        with idle_threads() as threads:
            at_once = "1 thread" if threads == 1 else f"{threads} threads"
            self.record = self._work(self.config, tell, self._stopping.is_set)

    def _end(self) -> None:
        self.button.disabled, self.stop.disabled = False, True
        self.status.value = self.problem or ("finished" if self.record else "stopped")


def _in_words(seconds_left: float | None) -> str:
    if seconds_left is None:
        return ""
    return f", about {seconds_left:.0f} s left" if seconds_left else ", finishing ..."


class LivePanel(widgets.VBox):
    """A panel and its live run, which Reset and closing the panel stop; the picture shows its news.

    A subclass makes `live` and `panel` in this order, for the panel draws what `live` has traced.
    """

    panel: Panel | None = None
    live: LiveRun

    def __init__(self) -> None:
        super().__init__([self.panel, self.live])
        self.add_class(PANEL)
        self.panel.reset.on_click(self._on_reset)

    def close(self) -> None:
        """Stop the live run and take all of the panel out of the page."""
        for part in (self.live, self.panel):
            part.close()
        super().close()

    def _on_live(self) -> None:
        self.panel.refresh()

    def _on_reset(self, _button: object) -> None:
        self.live.clear()
        self.panel.refresh()
