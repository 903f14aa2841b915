"""Sweeps: what is recorded is not run again, what failed stands apart, a kill changes no number."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from allora_lab import RunConfig
from allora_lab.cli import main
from allora_lab.experiments import sweep_run
from allora_lab.experiments.records import (
    FailedRun,
    failure_path,
    find_record,
    read_record,
    record_path,
)
from allora_lab.experiments.sweep import read_sweep
from allora_lab.experiments.sweep_run import checkpoint_path, keep, run_or_failure, run_sweep

SWEEP = """
name = "small"
[base]
steps = 4
eval_size = 16
train_size = 32
max_length = 16
lora_dropout = 0.1
[[block]]
vary = { method = ["lora", "allora", "asf-lora"] }
"""


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def sweep_file(tmp_path, results):
    path = tmp_path / "small.toml"
    path.write_text(SWEEP)
    return path


def without_clock(path):
    same = {"train_seconds": 0, "finished_at": "", "peak_memory_bytes": 0, "tokens_per_second": 0}
    return replace(read_record(path), **same)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Give the records of the small sweep, run in one go."""
    folder = tmp_path_factory.mktemp("one-go")
    (folder / "small.toml").write_text(SWEEP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLORA_LAB_RESULTS", str(folder / "results"))
        plan = read_sweep(folder / "small.toml")
        assert run_sweep(plan, device="cpu") == {"recorded": 3}
        return {c.run_id: without_clock(record_path("small", c)) for c in plan.configs}


# Ctrl-C is on: a suite that a shell runs in the background ignores it, and so would its children
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from allora_lab.cli import main
sys.exit(main(sys.argv[1:]))
"""


def command(sweep_file):
    words = [sys.executable, "-c", COMMAND, "sweep", str(sweep_file), "--device", "cpu"]
    return subprocess.Popen(words, env=os.environ, stderr=subprocess.PIPE, text=True)


def long_sweep(sweep_file):
    """Write the same three runs and a fourth that does not end soon, so that a stop finds it at work."""
    path = sweep_file.with_name("long.toml")
    path.write_text(f'{SWEEP}[[block]]\nset = {{ method = "lora", steps = 100000 }}\n')
    return path


def wait_for(condition, process):
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_same_as(uninterrupted, results, sweep_file):
    assert main(["sweep", str(sweep_file), "--device", "cpu"]) == 0
    plan = read_sweep(sweep_file)
    found = {c.run_id: without_clock(record_path("small", c)) for c in plan.configs}
    assert found == uninterrupted
    left = {p.relative_to(results).as_posix() for p in results.rglob("*") if p.is_file()}
    assert left == {f"small/{run_id}.json" for run_id in uninterrupted}


def test_a_kill_between_two_instants_loses_no_finished_run_and_changes_no_number(
    uninterrupted, results, sweep_file
):
    process = command(long_sweep(sweep_file))
    wait_for(lambda: list(results.glob("small/*.json")), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {p: p.stat().st_mtime_ns for p in results.glob("small/*.json")}
    assert kept
    assert_same_as(uninterrupted, results, sweep_file)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


def test_ctrl_c_stops_with_one_word_and_the_same_command_goes_on(
    uninterrupted, results, sweep_file
):
    process = command(long_sweep(sweep_file))
    wait_for(lambda: list(results.glob("small/*.json")), process)
    process.send_signal(signal.SIGINT)
    assert "allora-lab: stopped" in process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert_same_as(uninterrupted, results, sweep_file)


def test_sigterm_saves_the_step_at_hand_and_the_same_command_goes_on(
    uninterrupted, results, sweep_file
):
    process = command(long_sweep(sweep_file))
    wait_for(lambda: len(list(results.glob("small/*.json"))) == 3, process)
    wait_for(lambda: list(results.glob("small/unfinished/.*claim*")), process)
    process.send_signal(signal.SIGTERM)
    assert "allora-lab: stopped" in process.communicate(timeout=120)[1]
    assert process.returncode == 143
    assert not list(results.rglob(".*"))
    for path in results.glob("small/unfinished/*"):
        path.unlink()
    assert_same_as(uninterrupted, results, sweep_file)


def test_two_sweeps_on_one_folder_make_each_run_once(uninterrupted, results, sweep_file):
    processes = [command(sweep_file) for _ in range(2)]
    for process in processes:
        process.communicate(timeout=240)
        assert process.returncode == 0
    assert_same_as(uninterrupted, results, sweep_file)
    assert not list(results.rglob("*.earlier.json"))


def test_a_stopped_run_resumes_from_its_checkpoint_to_the_same_record(
    uninterrupted, results, sweep_file, capsys
):
    config = read_sweep(sweep_file).configs[0]
    asked = iter(range(9))
    checkpoint = checkpoint_path("small", config)
    stop_at_2 = {"checkpoint": checkpoint, "should_stop": lambda: next(asked) == 2}
    assert run_or_failure(config, device="cpu", **stop_at_2) is None
    assert main(["status", str(sweep_file)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["small", *"30012"]
    steps = []
    plan = read_sweep(sweep_file)
    watch = lambda _i, _n, c: lambda progress: steps.append((c.method, progress.done))
    assert run_sweep(plan, device="cpu", on_run=watch) == {"recorded": 3}
    assert steps[:3] == [("lora", 3), ("lora", 4), ("allora", 1)]
    assert_same_as(uninterrupted, results, sweep_file)


def test_a_sweep_that_is_recorded_does_nothing_the_second_time(results, sweep_file, capsys):
    assert main(["sweep", str(sweep_file), "--device", "cpu"]) == 0
    assert "3 recorded in" in capsys.readouterr().out
    before = {p: p.stat().st_mtime_ns for p in results.rglob("*.json")}
    assert main(["sweep", str(sweep_file), "--device", "cpu"]) == 0
    assert "small: 3 runs, 0 of this share to run" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in results.rglob("*.json")} == before


def test_a_run_recorded_by_another_sweep_is_not_run_again(results, sweep_file):
    plan = read_sweep(sweep_file)
    outcome = run_or_failure(plan.configs[0], device="cpu")
    assert keep("other", plan.configs[0], outcome) == "recorded"
    assert find_record("small", plan.configs[0]) == record_path("other", plan.configs[0])
    earlier = results / "another-kind" / f"{plan.configs[0].run_id}.json"
    earlier.parent.mkdir()
    earlier.write_text('{"run_id": "same", "of": "another kind of record"}')
    assert find_record("small", plan.configs[0]) == record_path("other", plan.configs[0])
    assert [c.method for c in plan.pending()] == ["allora", "asf-lora"]


DIVERGES = "\n[[block]]\nset = { method = 'lora', optimizer = 'sgd', lr = 1e30 }\n"


def test_a_failed_run_stands_apart_with_its_traceback_and_the_others_go_on(
    results, sweep_file, capsys
):
    sweep_file.write_text(SWEEP.replace("[[block]]", DIVERGES + "[[block]]", 1))
    assert main(["sweep", str(sweep_file), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "3 recorded in" in said
    assert "1 failed: see the tracebacks in" in said
    config = read_sweep(sweep_file).configs[0]
    told = json.loads(failure_path("small", config).read_text())
    assert told["error"].startswith("NonFiniteLossError: the loss is")
    assert "require_finite" in told["traceback"]
    assert told["config"] == config.to_json()
    assert find_record("small", config) is None
    assert not checkpoint_path("small", config).exists()

    assert main(["sweep", str(sweep_file), "--device", "cpu"]) == 0
    assert "0 of this share to run; 1 failed before (--retry-failed" in capsys.readouterr().out
    assert main(["status", str(sweep_file)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["small", *"43100"]
    assert main(["tables", str(sweep_file), "--out", str(results.parent / "out")]) == 0
    rows = (results.parent / "out" / "small.csv").read_text().splitlines()
    diverged = next(line for line in rows if "1e+30" in line)
    assert ",0,1," in diverged  # none of one recorded, and so no number
    assert main(["sweep", str(sweep_file), "--device", "cpu", "--retry-failed"]) == 0
    assert "4 runs, 1 of this share to run" in capsys.readouterr().out


def test_a_run_that_succeeds_after_all_is_no_longer_among_the_failed(results):
    config = RunConfig(method="lora", steps=1, eval_size=8, train_size=16, max_length=8)
    told = dict.fromkeys(("error", "traceback", "device", "finished_at"), "")
    failed = FailedRun(
        run_id=config.run_id,
        config=config.to_json(),
        code_commit=None,
        code_dirty=None,
        packages={},
        **told,
    )
    assert keep("x", config, failed) == "failed"
    assert failure_path("x", config).exists()
    keep("x", config, run_or_failure(config, device="cpu"))
    assert not failure_path("x", config).exists()


def test_what_would_stop_every_run_stops_the_sweep(results, sweep_file, capsys, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_DATA", "/nowhere")
    sweep_file.write_text("[[block]]\nset = { method = 'lora', dataset = 'emotion' }\n")
    assert main(["sweep", str(sweep_file), "--device", "cpu"]) == 2
    assert "ALLORA_LAB_DATA names /nowhere" in capsys.readouterr().err
    assert not list(results.rglob("failed"))


@pytest.fixture
def asked(monkeypatch):
    """Give the settings and the other arguments of every run that is started; none is trained."""
    started = []

    def run(config, *, device, checkpoint, on_note, on_step, should_stop):
        on_step("a step")
        if checkpoint:
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.touch()
        started.append((config.method, device, checkpoint, should_stop()))
        raise MemoryError("too large")

    monkeypatch.setattr(sweep_run, "run", run)
    return started


def test_a_share_has_every_so_many_th_run_and_each_is_announced(results, sweep_file, asked):
    plan, announced = read_sweep(sweep_file), []

    def on_run(done, total, config):
        announced.append((done, total, config.method))
        return lambda progress: announced.append(progress)

    assert run_sweep(plan, device="cpu", part=0, parts=2, on_run=on_run) == {"failed": 2}
    paths = [checkpoint_path("small", plan.configs[i]) for i in (0, 2)]
    assert asked == [("lora", "cpu", paths[0], False), ("asf-lora", "cpu", paths[1], False)]
    assert announced == [(0, 2, "lora"), "a step", (1, 2, "asf-lora"), "a step"]
    assert not any(path.exists() for path in paths)  # a run that failed is not gone on with
    assert run_sweep(plan, device="cpu", part=1, parts=2) == {"failed": 1}
    assert [method for method, *_ in asked] == ["lora", "asf-lora", "allora"]
    assert run_sweep(plan, device="cpu", part=0, parts=2) == {}
    assert run_sweep(plan, device="cpu", part=0, parts=2, retry_failed=True) == {"failed": 2}


def test_memory_that_does_not_suffice_is_the_run_s_own_failure(results, asked):
    config = RunConfig(method="lora", steps=1)
    failed = run_or_failure(config, device="cpu")
    assert failed.error == "MemoryError: too large"
    assert (failed.run_id, failed.config) == (config.run_id, config.to_json())
    assert failed.device.startswith("cpu")
    assert "raise MemoryError" in failed.traceback


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
def test_what_is_no_failure_of_the_run_itself_is_raised(results, monkeypatch, error):
    def run(*_arguments, **_settings):
        raise error("not this run's")

    monkeypatch.setattr(sweep_run, "run", run)
    with pytest.raises(error, match="not this run's"):
        run_or_failure(RunConfig(method="lora"), device="cpu")
