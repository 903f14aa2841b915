"""What the live runs of one notebook share: turns, idle cores, and the cell that made them.

Runs take turns because dropout masks and new heads are drawn from torch's global generator: two runs
at once would train to different numbers than each of them alone.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from IPython.core.getipython import get_ipython

_TURN = threading.Lock()


@contextmanager
def turn(should_stop: Callable[[], bool], on_waiting: Callable[[], None]) -> Iterator[bool]:
    """Wait until no other run is under way; yield False if this one is stopped before its turn."""
    is_ours = _TURN.acquire(blocking=False)
    while not is_ours and not should_stop():
        on_waiting()
        is_ours = _TURN.acquire(timeout=0.1)
    try:
        yield is_ours
    finally:
        if is_ours:
            _TURN.release()


def idle_cores() -> int:
    """Return how many cores were idle over the last minute; 0 where the system does not say."""
    if not hasattr(os, "getloadavg"):  # as on Windows
        return 0
    return max(0, round((os.cpu_count() or 1) - os.getloadavg()[0]))


@contextmanager
def idle_threads() -> Iterator[int]:
    """Let torch use one thread per idle core, at least one; yield their number.

    Threads that share a core wait for each other at every operation.  With eight processes on two
    cores, a step of MiniLM on two threads takes about five times as long as on one.  Torch's own
    number is put back at the end.
    """
    before = torch.get_num_threads()
    threads = max(1, min(before, idle_cores()))
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)


def running_cell() -> str:
    """Return what distinguishes the notebook's running cell; the same text outside a notebook."""
    shell = get_ipython()
    if shell is None:
        return ""
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    source = (shell.user_ns.get("In") or [""])[-1]
    return (parent.get("metadata") or {}).get("cellId") or source
