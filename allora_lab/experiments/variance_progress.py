"""How far a run of the gradient-variance study is, and whether it was asked to stop."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class Stopped(Exception):  # noqa: N818 - not an error: the run was asked to end
    """The run was asked to stop before its end."""


@dataclass
class VarianceProgress:
    """How far a run is: its share of the work done, the seconds left, and the epochs measured."""

    share: float = 0.0
    seconds_left: float = float("nan")
    epochs: list[dict[str, Any]] = field(default_factory=list)


class Clock:
    """Counts work in masks, tells the listener, and raises Stopped when asked to.

    `total` is all the work there is; the listener and the question are as in `run_variance`.
    """

    def __init__(
        self,
        total: float,
        on_progress: Callable[[VarianceProgress], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self.progress = VarianceProgress()
        self._total, self._done, self._start = total, 0.0, time.perf_counter()
        self._on_progress, self._should_stop = on_progress, should_stop

    def tick(self, work: float) -> None:
        """Count work that was done; raise Stopped if the run was asked to end."""
        self._done += work
        self.progress.share = min(self._done / self._total, 1.0)
        self.progress.seconds_left = self.seconds * (self._total / self._done - 1)
        self._on_progress(self.progress)
        if self._should_stop():
            raise Stopped

    @property
    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self._start
