"""A live run draws, fails, waits, is stopped and is replaced; afterwards Run can be pressed again."""

import threading

import pytest
import torch
from matplotlib.figure import Figure

from allora_lab.experiments import runner
from allora_lab.panels import live as live_module
from allora_lab.panels import turns
from allora_lab.panels.allocation import AllocationPanel
from allora_lab.panels.escape import EscapePanel
from allora_lab.panels.gradient_variance import GradientVariancePanel
from allora_lab.panels.live import LiveRun

TINY = {"steps": 3, "eval_size": 16, "train_size": 32, "max_length": 16, "batch_size": 4}
SECONDS = 60


@pytest.fixture
def uncaught(monkeypatch):
    """Collect what is raised in a thread and caught by nobody, whose traceback would be shown."""
    found = []
    monkeypatch.setattr(threading, "excepthook", lambda about: found.append(about.exc_type))
    return found


def can_run_again(live):
    return not live.button.disabled and live.stop.disabled


def finish(panel):
    panel.live.button.click()
    panel.live.wait(SECONDS)
    return panel.live


def raising(error, *, at=1):
    """Return a function that raises when it is called for the `at`th time."""
    calls = []

    def fail(*_args, **_named):
        calls.append(1)
        if len(calls) >= at:
            raise error
        return Figure(), ""

    return fail


def break_stage(stage, panel, monkeypatch, error):
    if stage in ("load_dataset", "build_adapted", "final_scores"):
        monkeypatch.setattr(runner, stage, raising(error))
    elif stage == "first step":
        monkeypatch.setattr(runner, "batch_at", raising(error))
    elif stage == "last step":
        real, fail = runner.batch_at, raising(error)
        monkeypatch.setattr(
            runner,
            "batch_at",
            lambda *a, step, **k: (fail if step == 2 else real)(*a, step=step, **k),
        )
    elif stage == "drawing":
        monkeypatch.setattr(panel.panel, "_draw", raising(error))
    else:  # drawing the finished run: after each of the three steps it was drawn
        monkeypatch.setattr(panel.panel, "_draw", raising(error, at=TINY["steps"] + 1))


STAGES = (
    *("load_dataset", "build_adapted", "first step", "last step", "final_scores"),
    *("drawing", "drawing the finished run"),
)


@pytest.mark.parametrize("stage", STAGES)
def test_a_failure_at_any_stage_is_reported_and_run_can_be_pressed_again(
    stage, monkeypatch, uncaught
):
    panel = EscapePanel(**TINY)
    with monkeypatch.context() as broken:
        break_stage(stage, panel, broken, RuntimeError("CUDA error"))
        live = finish(panel)
        assert "RuntimeError: CUDA error" in live.status.value
        assert uncaught == [RuntimeError]
        assert can_run_again(live)
    assert finish(panel).status.value == "finished"


@pytest.mark.parametrize("error", [MemoryError(), KeyError("k"), OSError(), SystemExit()])
@pytest.mark.parametrize("make", [EscapePanel, AllocationPanel, GradientVariancePanel])
def test_no_error_leaves_any_panel_disabled(make, error, uncaught):
    panel = make()
    panel.live._work = raising(error)
    live = finish(panel)
    assert type(error).__name__ in live.status.value
    assert can_run_again(live)
    assert uncaught == ([] if isinstance(error, OSError) else [type(error)])
    panel.panel.reset.click()
    assert live.status.value == ""
    assert can_run_again(live)


def test_a_run_that_cannot_start_leaves_run_enabled():
    live = LiveRun(raising(ValueError("rank 0")), lambda: None)
    live.button.click()
    assert live.status.value == "rank 0"
    assert can_run_again(live)


class Waiting:
    """Work that says when it has begun, and ends when its run is stopped or it is told to."""

    def __init__(self):
        self.begun, self.done, self.was_stopped = threading.Event(), threading.Event(), False

    def __call__(self, _config, _tell, should_stop):
        self.begun.set()
        while not (should_stop() or self.done.wait(0.01)):
            pass
        self.was_stopped = should_stop()


def started(make=EscapePanel):
    panel = make()
    panel.live._work = Waiting()
    panel.live.button.click()
    assert panel.live._work.begun.wait(SECONDS)
    return panel


def test_two_live_runs_at_once_train_to_the_numbers_of_one_alone():
    panels = [EscapePanel(**TINY) for _ in range(2)]
    for panel in panels:
        panel.panel.controls["lora_dropout"].value = 0.2
    alone = finish(panels[0]).record.trace
    for panel in panels:
        panel.live.button.click()
    for panel in panels:
        panel.live.wait(SECONDS)
        assert panel.live.record.trace == alone


def test_the_second_run_says_that_it_waits_for_the_first():
    first, said = started(AllocationPanel), threading.Event()
    second = EscapePanel()
    second.live._work = Waiting()
    second.live.status.observe(lambda c: "waiting" in c["new"] and said.set(), names="value")
    second.live.button.click()
    assert said.wait(SECONDS)
    assert not second.live._work.begun.is_set()
    first.live._work.done.set()
    assert second.live._work.begun.wait(SECONDS)
    second.live.stop.click()
    second.live.wait(SECONDS)


def test_a_waiting_run_can_be_stopped():
    first, second = started(AllocationPanel), EscapePanel()
    second.live._work = Waiting()
    second.live.button.click()
    second.live.stop.click()
    second.live.wait(SECONDS)
    assert second.live.status.value == "stopped"
    assert can_run_again(second.live)
    assert first.live.button.disabled
    first.close()
    first.live.wait(SECONDS)


ENDS = {
    "made again": lambda panel: type(panel)(),
    "closed": lambda panel: panel.close(),
    "reset": lambda panel: panel.panel.reset.click(),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_run_ends_with_its_panel(end):
    panel = started()
    ENDS[end](panel)
    panel.live.wait(SECONDS)
    assert panel.live._work.was_stopped


def test_a_panel_of_another_cell_does_not_stop_a_run(monkeypatch):
    panel = started()
    monkeypatch.setattr(live_module, "running_cell", lambda: "another cell")
    EscapePanel()
    panel.live._work.done.set()
    panel.live.wait(SECONDS)
    assert not panel.live._work.was_stopped


class Shell:
    """What of a notebook's kernel says which cell is running."""

    def __init__(self, cell_id, source):
        self.metadata = {"cellId": cell_id} if cell_id else {}
        self.user_ns = {"In": ["", "import this", source]}

    def get_parent(self):
        return {"header": {}, "metadata": self.metadata}


@pytest.mark.parametrize("cell", [("id-1", "panel"), (None, "panel = EscapePanel()")])
def test_a_cell_is_known_by_its_id_or_else_by_its_source(cell, monkeypatch):
    monkeypatch.setattr(turns, "get_ipython", lambda: Shell(*cell))
    assert turns.running_cell() == cell[0] or cell[1]
    monkeypatch.setattr(turns, "get_ipython", lambda: None)
    assert turns.running_cell() == ""


def test_time_left_does_not_count_loading(monkeypatch):
    now, said = [0.0], []
    monkeypatch.setattr(live_module, "perf_counter", lambda: now[0])

    def work(_config, tell, _should_stop):
        now[0] += 500  # loading
        for done in (1, 2, 3):
            now[0] += 10
            tell(done, 5, f"step {done}")
            said.append(live.status.value)

    live = LiveRun(lambda: None, lambda: None, work)
    live.button.click()
    live.wait(SECONDS)
    assert "left" not in said[0]
    assert ["about 30 s left" in said[1], "about 20 s left" in said[2]] == [True, True]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("idle", "threads"), [(0, 1), (1, 1), (2, 2), (64, 2)])
def test_a_run_takes_idle_cores_only_and_says_so(idle, threads, monkeypatch, uncaught):
    monkeypatch.setattr(turns, "idle_cores", lambda: idle)
    said, found = [], []

    def work(_config, tell, _should_stop):
        tell(1, 2, "step 1")
        said.append(live.status.value)
        found.append(torch.get_num_threads())
        raise RuntimeError("in the middle")

    live = LiveRun(lambda: None, lambda: None, work)
    live.button.click()
    live.wait(SECONDS)
    assert uncaught == [RuntimeError]
    assert found == [threads]
    assert f"({threads} thread" in said[0]
    assert torch.get_num_threads() == 2


def test_a_machine_whose_load_is_unknown_counts_as_busy(monkeypatch):
    monkeypatch.setattr(turns.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(turns.os, "getloadavg", lambda: (2.7, 0, 0))
    assert turns.idle_cores() == 5
    monkeypatch.setattr(turns.os, "getloadavg", lambda: (9.0, 0, 0))
    assert turns.idle_cores() == 0
    monkeypatch.delattr(turns.os, "getloadavg")
    assert turns.idle_cores() == 0
