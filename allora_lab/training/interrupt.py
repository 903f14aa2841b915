"""Ctrl-C and SIGTERM that wait for the end of a step, so that no half-made step is ever saved."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived, as Slurm or the owner of a container sends it; treated as Ctrl-C is."""


RAISED = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


def _handle(signals: tuple[int, ...], handler: Callable[[int, object], None]) -> dict[int, object]:
    """Install a handler of some signals and return the former ones."""
    return {number: signal.signal(number, handler) for number in signals}


def _restore(before: dict[int, object]) -> None:
    for number, handler in before.items():  # None: it was not installed from Python
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Hold Ctrl-C and SIGTERM back inside the block, and raise KeyboardInterrupt at its end.

    For SIGTERM it is `Terminated`.  The block is given a function that says whether either came.
    Outside the main thread, where Python delivers no signals, none does.  A second one interrupts
    at once.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number: int, _frame: object) -> None:
        if received:
            raise RAISED[number]
        received.append(number)

    before = _handle((signal.SIGINT, signal.SIGTERM), note)
    try:
        yield lambda: bool(received)
    finally:
        _restore(before)
    if received:
        raise RAISED[received[0]]


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` inside the block, so that what is open is closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        raise Terminated

    before = _handle((signal.SIGTERM,), stop)
    try:
        yield
    finally:
        _restore(before)
