"""What the commands `sweep`, `status`, `tables` and `pages` do."""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tqdm.auto import tqdm

from allora_lab.checks import require_at_least, require_at_most
from allora_lab.commands import describe, print_table
from allora_lab.config import RunConfig
from allora_lab.experiments.environment import resolve_device
from allora_lab.experiments.records import look_up
from allora_lab.experiments.sweep import Sweep, read_sweep
from allora_lab.experiments.sweep_run import checkpoint_path, run_sweep
from allora_lab.experiments.sweep_tables import sweep_tables, to_csv
from allora_lab.files import REPOSITORY, require_writable, results_folder, written_whole
from allora_lab.locks import abandoned_removed
from allora_lab.training.checkpoint import Progress

MOST_WORKERS = 1024
ADDRESS = re.compile(r"(\w+://)?\S+:\d{1,5}")  # of a Dask scheduler


class SweepBar:
    """A bar over runs, in which a run counts by the share of its steps that are done."""

    def __init__(self, total: int) -> None:
        self.bar = tqdm(
            total=total,
            unit="run",
            dynamic_ncols=True,
            mininterval=0.5,
            bar_format="{l_bar}{bar}| {n:.2f}/{total} [{elapsed}<{remaining}{postfix}]",
        )

    def on_run(self, done: int, _total: int, config: RunConfig) -> Callable[[Progress], None]:
        """Name the run that starts, and return what follows its steps."""
        self.move(done)
        self.bar.set_description(describe(config))

        def on_step(progress: Progress) -> None:
            self.move(done + progress.done / config.steps)
            self.bar.set_postfix_str(f"loss {progress.trace['loss'][-1]:.3f}", refresh=False)

        return on_step

    def move(self, to: float) -> None:
        """Put the bar at `to` runs done; it never goes back."""
        self.bar.update(max(0.0, to - self.bar.n))


def sweep(options: argparse.Namespace) -> None:
    """Run what a sweep file lacks records of, with a bar and the time left."""
    resolve_device(options.device)
    plan = read_sweep(options.file)
    require_at_least("parts", options.parts, 1)
    if not 0 <= options.part < options.parts:
        raise ValueError(f"part must be from 0 to {options.parts - 1}, got {options.part}")
    require_at_least("workers", options.workers, 1)
    require_at_most("workers", options.workers, MOST_WORKERS)
    if options.scheduler is not None and not ADDRESS.fullmatch(options.scheduler):
        raise ValueError(
            f"--scheduler must be an address as `dask scheduler` prints it, such as "
            f"tcp://10.0.0.1:8786, got {options.scheduler!r}"
        )
    if options.parts > 1 and (options.scheduler or options.workers > 1):
        raise ValueError("--parts is for processes without Dask: leave out --workers, --scheduler")
    share = (options.part, options.parts)
    pending = len(plan.pending(*share, retry_failed=options.retry_failed))
    failed = 0 if options.retry_failed else state_of(plan)["failed"]
    apart = f"; {failed} failed before (--retry-failed tries them again)" if failed else ""
    print_problems(plan)
    print(f"{plan.name}: {len(plan.configs)} runs, {pending} of this share to run{apart}")
    if options.dry_run or not pending:
        return
    where = results_folder() / plan.name
    require_writable(where)
    for folder in ("unfinished", "failed"):
        abandoned_removed(where / folder)
    bar = SweepBar(pending)
    if options.scheduler or options.workers > 1:
        report(plan.name, on_dask(plan, options, bar))
        return
    with bar.bar:
        counts = run_sweep(
            plan,
            device=options.device,
            part=options.part,
            parts=options.parts,
            retry_failed=options.retry_failed,
            on_run=bar.on_run,
            on_note=bar.bar.write,
        )
        bar.move(pending)
    report(plan.name, counts)


def on_dask(plan: Sweep, options: argparse.Namespace, bar: SweepBar) -> Counter[str]:
    """Run what is missing on a Dask cluster: the one named, or one on this machine."""
    from allora_lab.experiments.distributed import run_sweep_distributed  # an optional extra

    def on_done(config: RunConfig, status: str) -> None:
        bar.bar.set_description(f"{describe(config)}: {status}")
        bar.move(round(bar.bar.n) + 1)

    with bar.bar:
        return run_sweep_distributed(
            plan,
            scheduler=options.scheduler,
            workers=options.workers,
            device=options.device,
            resources={"GPU": 1} if options.scheduler and options.device == "cuda" else None,
            retry_failed=options.retry_failed,
            on_done=on_done,
            on_wait=bar.bar.write,
        )


def print_problems(plan: Sweep) -> None:
    """Print one line for each file of a sweep that does not count as a record."""
    for problem in look_up(plan.name, plan.configs).problems:
        print(f"not counted: {problem}")


def report(name: str, counts: Counter[str]) -> None:
    """Say what became of the runs."""
    where = results_folder() / name
    print(f"{counts['recorded']} recorded in {where}")
    if counts["elsewhere"]:
        print(f"{counts['elsewhere']} left to another process that makes or has made them")
    if counts["failed"]:
        print(f"{counts['failed']} failed: see the tracebacks in {where / 'failed'}")


def state_of(plan: Sweep) -> Counter[str]:
    """Return how many runs of a sweep are recorded, failed, unfinished and not begun."""
    counts: Counter[str] = Counter(
        recorded=len(plan.configs) - len(plan.pending(retry_failed=True))
    )
    pending = plan.pending()
    counts["failed"] = len(plan.configs) - counts["recorded"] - len(pending)
    counts["unfinished"] = sum(checkpoint_path(plan.name, c).exists() for c in pending)
    counts["to run"] = len(pending) - counts["unfinished"]
    return counts


def sweep_files() -> list[Path]:
    """Return the sweeps of this repository."""
    return sorted((REPOSITORY / "sweeps").glob("*.toml"))


def status(options: argparse.Namespace) -> None:
    """Say how far each sweep is."""
    rows, plans = [], []
    for path in options.files or sweep_files():
        plan = read_sweep(path)
        state = state_of(plan)
        columns = ("recorded", "failed", "unfinished", "to run")
        row = {"sweep": plan.name, "runs": len(plan.configs), **{c: state[c] for c in columns}}
        rows.append(row)
        plans.append(plan)
    print_table(rows)
    for plan in plans:
        print_problems(plan)


def tables(options: argparse.Namespace) -> None:
    """Print the tables of what is recorded of each sweep, and write them as Markdown and CSV."""
    require_writable(options.out)
    for path in options.files or sweep_files():
        plan = read_sweep(path)
        print_problems(plan)
        if state_of(plan)["recorded"] == 0:
            print(f"{plan.name}: no run is recorded yet: allora-lab sweep {path}\n")
            continue
        made = sweep_tables(plan.name, plan.configs, plan.comparisons)
        parts = {f"{plan.name}.md": made.to_markdown(), f"{plan.name}.csv": to_csv(made.cells)}
        if made.comparisons:
            parts[f"{plan.name}-comparisons.csv"] = to_csv(made.comparisons)
        for name, text in parts.items():
            with written_whole(options.out / name) as partial:
                partial.write_text(text)
        print(made.to_markdown())
        print(f"wrote {', '.join(str(options.out / name) for name in parts)}\n")


def pages(options: argparse.Namespace) -> None:
    """Write the generated parts of the documents, or with --check say which are out of date."""
    from allora_lab.experiments.pages import write_pages  # it reads all records

    changed = write_pages(only_check=options.check)
    for block in changed:
        print(f"{block} is out of date" if options.check else f"{block} is written")
    if not changed:
        print("every generated part of README and docs/ is up to date")
    if changed and options.check:
        sys.exit(1)
