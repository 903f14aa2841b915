"""A sweep on Dask: workers make the runs, this process writes each record as it arrives."""

import logging
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

try:
    import dask
    from dask.system import CPU_COUNT
    from distributed import Client, Future, KilledWorker, LocalCluster
    from distributed.comm import CommClosedError
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "running a sweep on Dask needs distributed: pip install 'allora-lab[cluster]'"
    ) from error

from allora_lab.checks import require_at_least, require_positive
from allora_lab.config import RunConfig
from allora_lab.experiments.distributed_work import failure_of_killed, outcome_of, work
from allora_lab.experiments.records import find_record
from allora_lab.experiments.sweep import Sweep
from allora_lab.experiments.sweep_run import checkpoint_path, keep
from allora_lab.locks import claimed
from allora_lab.training.interrupt import deferred_interrupt

CONNECT_SECONDS = 10.0
NOISY = ("distributed", "distributed.client", "tornado.application", "asyncio")
POLL_SECONDS = 1.0  # how often Ctrl-C, and workers that came or went, are looked for
# a terminal sends Ctrl-C to a local cluster's workers too, which this process closes by itself
DEAF_TO_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


def threads_of_each(workers: int) -> int:
    """Return torch's threads when `workers` processes share this machine's processors evenly."""
    return max(1, CPU_COUNT // workers)


@contextmanager
def local_cluster(workers: int, resources: Mapping[str, float]) -> Iterator[str]:
    """Give the address of a scheduler with `workers` processes on loopback, closed at the end."""
    # `work` sets the threads: what a worker's parent exports would stay in our own environment
    with dask.config.set({"distributed.nanny.pre-spawn-environ": {}}):
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # else it would take port 8787
            memory_limit=None,  # Dask would kill a run at its share of the memory
            resources=dict(resources),
            preload=[DEAF_TO_CTRL_C],
        )
    with cluster:
        yield cluster.scheduler_address


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Dask's own reports of lost connections, with their tracebacks, from the user's terminal."""
    loggers = [logging.getLogger(name) for name in NOISY]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def connect(scheduler: str) -> Client:
    """Return a client of a scheduler; ConnectionError when none answers within 10 seconds."""
    try:
        return Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"no Dask scheduler answers at {scheduler} within {CONNECT_SECONDS:g} seconds: start "
            "one with `dask scheduler` and give the address it prints"
        ) from error


@dataclass
class Dispatch:
    """The runs at hand on a cluster: one to a worker, so that a death is laid to that run alone."""

    client: Client
    sweep_name: str
    device: str
    threads: int | None
    resources: dict[str, float]
    on_done: Callable[[RunConfig, str], None]
    counts: Counter[str] = field(default_factory=Counter)
    at_hand: dict[Future, RunConfig] = field(default_factory=dict)
    claims: dict[RunConfig, ExitStack] = field(default_factory=dict)
    done: SimpleQueue = field(default_factory=SimpleQueue)
    batch: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def suitable_workers(self) -> int:
        """Return how many workers declare at least the resources that a run asks for."""
        if self.client.status != "running":
            raise CommClosedError("the connection to the scheduler is lost")
        return sum(
            all(worker["resources"].get(k, 0) >= amount for k, amount in self.resources.items())
            for worker in self.client.scheduler_info()["workers"].values()
        )

    def start(self, config: RunConfig) -> None:
        """Send a run to the cluster, under a name that no other client's run has.

        A run that another process on this results folder makes or has made is left out.
        """
        claim = ExitStack()
        is_mine = claim.enter_context(claimed(checkpoint_path(self.sweep_name, config)))
        if not is_mine or find_record(self.sweep_name, config):
            claim.close()
            self.counts["elsewhere"] += 1
            return
        self.claims[config] = claim
        future = self.client.submit(
            work,
            config.to_json(),
            self.device,
            self.threads,
            key=f"{config.run_id}-{self.batch}",
            resources=self.resources,
            pure=False,
        )
        self.at_hand[future] = config
        future.add_done_callback(self.done.put)

    def finish(self, future: Future) -> None:
        """Write what a run came to, and forget it: Dask makes again what a dead worker held."""
        config = self.at_hand.pop(future)
        try:
            outcome = outcome_of(config, future.result())
        except KilledWorker as error:
            outcome = failure_of_killed(config, error)
        if outcome is not None:
            status = keep(self.sweep_name, config, outcome)
            checkpoint_path(self.sweep_name, config).unlink(missing_ok=True)
            self.counts[status] += 1
            self.on_done(config, status)
        self.claims.pop(config).close()

    def finish_next(self) -> None:
        """Finish the run that ends within the next second, if one does."""
        with suppress(Empty):
            self.finish(self.done.get(timeout=POLL_SECONDS))

    def finish_those_made(self) -> None:
        """Keep what was made but not yet taken in when the sweep ends; let go of the other runs."""
        for future in [f for f in self.at_hand if f.status == "finished"]:
            with suppress(ValueError, CancelledError, CommClosedError):
                self.finish(future)
        for claim in self.claims.values():
            claim.close()

    def what_to_start(self) -> str:
        """Return the sentence for when no worker can take a run."""
        declared = " ".join(f"{name}={amount:g}" for name, amount in self.resources.items())
        option = f' --resources "{declared}"' if declared else ""
        address = self.client.scheduler.address
        return (
            f"no worker of {address} can take a run yet: waiting for one; start it with "
            f"`dask worker {address} --nthreads 1{option}`"
        )


def run_sweep_distributed(
    sweep: Sweep,
    *,
    scheduler: str | None = None,
    workers: int = 2,
    device: str = "auto",
    resources: Mapping[str, float] | None = None,
    retry_failed: bool = False,
    on_done: Callable[[RunConfig, str], None] = lambda _config, _status: None,
    on_wait: Callable[[str], None] = lambda _sentence: None,
) -> Counter[str]:
    """Make the missing runs on Dask, and return how many were "recorded", "failed" or "elsewhere".

    A worker has one run at a time; when it dies, that run alone is made again elsewhere.  A run that
    kills more workers than the scheduler's `allowed-failures` (3) is kept as failed.  Every record is
    written the moment it arrives.  Ctrl-C keeps what has been made, stops the runs at hand within a
    step, closes a local cluster, and leaves another's scheduler and workers running.

    Parameters
    ----------
    scheduler
        Address of a Dask scheduler, such as tcp://10.0.0.1:8786; None starts a local cluster.
    workers
        Processes of the local cluster, which share the processors evenly.
    device
        Of each worker: cpu, cuda, mps or auto.
    resources
        What a run asks of a worker, such as {"GPU": 1}; workers of a local cluster declare it.
    on_done, on_wait
        Are told of each run and its status once it is written; and, once, what to start when no
        worker can take a run.

    Raises
    ------
    ConnectionError
        When the scheduler does not answer within 10 seconds, or goes away.
    ValueError
        When a worker cannot make a run at all: it lacks the data or the device, has more than one
        thread, or another version of this package.
    """
    require_at_least("workers", workers, 1)
    asked = dict(resources or {})
    for name, amount in asked.items():
        require_positive(f"resource {name}", amount)
    waiting = deque(sweep.pending(retry_failed=retry_failed))
    if not waiting:
        return Counter()
    threads = threads_of_each(workers) if scheduler is None else None
    with ExitStack() as stack:
        stack.enter_context(quiet())
        address = scheduler or stack.enter_context(local_cluster(workers, asked))
        client = stack.enter_context(connect(address))
        dispatch = Dispatch(client, sweep.name, device, threads, asked, on_done)
        has_told = False
        interrupted = stack.enter_context(deferred_interrupt())
        try:
            while (waiting or dispatch.at_hand) and not interrupted():
                suitable = dispatch.suitable_workers()
                while waiting and len(dispatch.at_hand) < suitable:
                    dispatch.start(waiting.popleft())
                if not suitable and not has_told:
                    on_wait(dispatch.what_to_start())
                    has_told = True
                dispatch.finish_next()
        except (CancelledError, CommClosedError) as error:
            raise ConnectionError(
                f"the Dask scheduler at {address} went away; {dispatch.counts['recorded']} runs are "
                "recorded: start it and run again for the rest"
            ) from error
        finally:
            dispatch.finish_those_made()
    return dispatch.counts
