"""A sweep on a real cluster of processes on loopback; workers are killed with SIGKILL."""

import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import asdict, replace

import dask
import psutil
import pytest
import torch
from distributed import LocalCluster, Nanny, Scheduler, SpecCluster
from distributed.diagnostics.plugin import SchedulerPlugin

from allora_lab import RunConfig, run
from allora_lab.experiments import distributed
from allora_lab.experiments.distributed import run_sweep_distributed, threads_of_each
from allora_lab.experiments.distributed_work import outcome_of
from allora_lab.experiments.records import failure_path, read_record, record_path
from allora_lab.experiments.sweep import Sweep

TINY = {"train_size": 32, "eval_size": 16, "batch_size": 8, "max_length": 16}
SHORT = RunConfig(method="lora", steps=2, **TINY)
LONG = RunConfig(method="lora", steps=1_000_000, **TINY)  # never reaches its end


def seeds(count, config=SHORT):
    return tuple(config.with_changes(seed=seed) for seed in range(count))


def without_clock(record):
    same = {"train_seconds": 0, "finished_at": "", "peak_memory_bytes": 0, "tokens_per_second": 0}
    return replace(record, **same)


def recorded(sweep):
    return [config for config in sweep.configs if record_path(sweep.name, config).exists()]


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path / "results"))


@pytest.fixture
def torch_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


class Watch(SchedulerPlugin):
    """Notes the name of the worker that every run was given to, each time it was."""

    def __init__(self, scheduler):
        self.scheduler = scheduler
        self.given = defaultdict(list)

    def run_id(self, key):
        return key.rsplit("-", 1)[0]

    def transition(self, key, _start, finish, *_rest, **_more):
        if finish == "processing":
            self.given[self.run_id(key)].append(self.scheduler.tasks[key].processing_on.name)


@pytest.fixture(scope="module")
def cluster():
    """Give a cluster as `dask scheduler` and two `dask worker` make one; only one has a GPU."""
    loopback = {"host": "127.0.0.1"}
    no_dashboard = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    worker = {**loopback, "nthreads": 1, "memory_limit": None, "env": {"OMP_NUM_THREADS": "1"}}
    with dask.config.set({"distributed.nanny.pre-spawn-environ": {}}):
        made = SpecCluster(
            scheduler={"cls": Scheduler, "options": {**loopback, **no_dashboard}},
            workers={
                "gpu": {"cls": Nanny, "options": {**worker, "resources": {"GPU": 1}}},
                "plain": {"cls": Nanny, "options": worker},
            },
        )
    with made:
        yield made


@pytest.fixture
def watch(cluster):
    plugin = Watch(cluster.scheduler)
    cluster.scheduler.add_plugin(plugin, name="watch")
    yield plugin
    cluster.scheduler.remove_plugin("watch")


def kill_the_worker_of(cluster, key):
    name = cluster.scheduler.tasks[key].processing_on.name
    os.kill(cluster.workers[name].pid, signal.SIGKILL)


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_local_cluster_makes_the_records_of_a_serial_sweep_and_keeps_failures_apart(
    torch_threads,
):
    diverging = SHORT.with_changes(lr=1e30)
    sweep = Sweep("s", (SHORT, diverging, SHORT.with_changes(seed=1)))
    told = []
    counts = run_sweep_distributed(
        sweep, workers=2, device="cpu", on_done=lambda config, status: told.append((config, status))
    )
    assert counts == {"recorded": 2, "failed": 1}
    assert sorted(told, key=str) == sorted(
        [(c, "failed" if c is diverging else "recorded") for c in sweep.configs], key=str
    )
    assert "NonFiniteLossError" in failure_path("s", diverging).read_text()
    assert not record_path("s", diverging).exists()
    torch_threads(threads_of_each(2))
    for config in (sweep.configs[0], sweep.configs[2]):
        made = read_record(record_path("s", config))
        assert without_clock(made) == without_clock(run(config, device="cpu"))
    assert not [p for p in psutil.Process().children() if "spawn_main" in str(p.cmdline())]
    assert run_sweep_distributed(sweep, workers=2) == {}  # failed ones are left, as in a serial one


def test_runs_that_ask_for_a_gpu_go_to_the_worker_that_declares_one(cluster, watch):
    sweep = Sweep("s", seeds(3))
    counts = run_sweep_distributed(
        sweep, scheduler=cluster.scheduler_address, device="cpu", resources={"GPU": 1}
    )
    assert counts == {"recorded": 3}
    assert watch.given == {config.run_id: ["gpu"] for config in sweep.configs}


def test_ctrl_c_keeps_what_is_made_and_frees_the_workers_of_another_cluster(cluster):
    sweep = Sweep("s", (SHORT, *seeds(2, LONG), *seeds(3)[1:]))
    with pytest.raises(KeyboardInterrupt):
        run_sweep_distributed(
            sweep,
            scheduler=cluster.scheduler_address,
            device="cpu",
            on_done=lambda _config, _status: signal.raise_signal(signal.SIGINT),
        )
    assert recorded(sweep) == [SHORT]
    wait_until(lambda: not cluster.scheduler.tasks)
    rest = Sweep("s", seeds(3))  # would wait for ever if the long runs still held the workers
    assert run_sweep_distributed(rest, scheduler=cluster.scheduler_address, device="cpu") == {
        "recorded": 2
    }


def test_a_killed_worker_costs_one_rerun_of_the_run_it_had(cluster, watch):
    sweep = Sweep("s", seeds(5, SHORT.with_changes(steps=32)))
    killed = []

    def kill_once(_config, _status):
        """Kill a worker at its second run or later: what it made before must not be made again."""
        given = [name for names in watch.given.values() for name in names]
        for key, task in list(cluster.scheduler.tasks.items()):
            worker = task.processing_on
            if worker and given.count(worker.name) > 1 and not killed:
                killed.append(watch.run_id(key))
                kill_the_worker_of(cluster, key)

    counts = run_sweep_distributed(
        sweep, scheduler=cluster.scheduler_address, device="cpu", on_done=kill_once
    )
    assert counts == {"recorded": 5}
    assert recorded(sweep) == list(sweep.configs)
    assert len(killed) == 1
    assert {run_id: len(names) for run_id, names in watch.given.items()} == {
        config.run_id: 2 if config.run_id in killed else 1 for config in sweep.configs
    }


def test_a_run_that_kills_its_workers_is_kept_as_failed_and_costs_no_other(cluster):
    wait_until(lambda: len(cluster.scheduler.workers) == 2)
    sweep = Sweep("s", (SHORT, LONG, *seeds(3)[1:]))
    cluster.scheduler.allowed_failures = 0
    told = []

    def kill_once(_config, status):
        told.append(status)
        if len(told) == 1:
            (key,) = [key for key in cluster.scheduler.tasks if key.startswith(LONG.run_id)]
            kill_the_worker_of(cluster, key)

    counts = run_sweep_distributed(
        sweep, scheduler=cluster.scheduler_address, device="cpu", on_done=kill_once
    )
    cluster.scheduler.allowed_failures = 3
    assert counts == {"recorded": 3, "failed": 1}
    assert "1 workers died while making this run" in failure_path("s", LONG).read_text()


@pytest.fixture
def threads_cluster():
    """Make a cluster whose one worker is in this process, with some threads."""

    def make(threads):
        return LocalCluster(
            n_workers=1, threads_per_worker=threads, processes=False, dashboard_address=":0"
        )

    return make


def test_a_worker_that_would_mix_the_masks_of_two_runs_is_refused(threads_cluster):
    with threads_cluster(2) as made, pytest.raises(ValueError, match="start it with --nthreads 1"):
        run_sweep_distributed(Sweep("s", (SHORT,)), scheduler=made.scheduler_address)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_worker_without_the_device_says_so(threads_cluster):
    with threads_cluster(1) as made, pytest.raises(ValueError, match=r"worker .* no device 'cuda'"):
        run_sweep_distributed(Sweep("s", (SHORT,)), scheduler=made.scheduler_address, device="cuda")


def test_a_record_of_another_version_of_the_package_is_refused():
    other = {**asdict(run(SHORT, device="cpu")), "run_id": "another"}
    with pytest.raises(ValueError, match="install the same version of allora-lab there"):
        outcome_of(SHORT, {"worker": "w", "status": "recorded", "record": other})


def test_a_scheduler_that_goes_away_is_one_sentence_after_what_to_start(capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    command = ["-m", "dask", "scheduler", "--host", address, "--no-dashboard"]
    command += ["--dashboard-address", "127.0.0.1:0"]
    scheduler = subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL)
    told = []

    def kill(sentence):
        told.append(sentence)
        scheduler.kill()
        scheduler.wait()

    try:
        with pytest.raises(ConnectionError, match=r"went away; 0 runs are recorded"):
            run_sweep_distributed(
                Sweep("s", (SHORT,)), scheduler=address, resources={"GPU": 1}, on_wait=kill
            )
    finally:
        scheduler.kill()
        scheduler.wait()
    assert "Traceback" not in capfd.readouterr().err
    (sentence,) = told
    assert f'`dask worker {address} --nthreads 1 --resources "GPU=1"`' in sentence


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://x"])
def test_a_scheduler_that_does_not_answer_is_one_sentence_in_time(address, monkeypatch):
    assert distributed.CONNECT_SECONDS == 10
    monkeypatch.setattr(distributed, "CONNECT_SECONDS", 1.0)
    start = time.monotonic()
    with pytest.raises(ConnectionError, match=r"no Dask scheduler answers at .* within 1 seconds"):
        run_sweep_distributed(Sweep("s", (SHORT,)), scheduler=address)
    assert time.monotonic() - start < 9  # far from the default of 10


def test_without_distributed_one_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "allora_lab.experiments.distributed")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'allora-lab\[cluster\]'"):
        importlib.import_module("allora_lab.experiments.distributed")
