"""What every notebook takes of a Binder pod: peak memory and seconds, its live runs included.

    make binder

runs `binder/start` as the image does, each notebook in a kernel of its own on one CPU, presses every
button that starts a live run, waits until it has ended, and prints the kernel's peak.  Where it may (as
root on Linux) it takes the network away and sets the pod's limit of 2 GB, so that what passes here
passes there; it says which of the two it could do.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parent / "notebooks"
LIMIT_MIB = 2048
SERVER_MIB = 150  # JupyterLab's own process, beside the kernel
MEMORY_GROUPS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
)
LIVE = """
import gc
from allora_lab.panels.base import Panel
from allora_lab.panels.live import LiveRun
_lives = [w for w in gc.get_objects() if isinstance(w, LiveRun)]
for _panel in [w for w in gc.get_objects() if isinstance(w, Panel)]:
    _panel.reset.click()  # as a reader finds it
for _live in _lives:
    _live.button.click()
    _live.wait(1800)
    assert not _live.problem, _live.problem
    assert _live.record is not None, "a live run did not end"
import resource
print("live runs and peak:", len(_lives), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def limit_memory() -> bool:
    """Put this process and its children under the pod's limit; return whether that could be done."""
    for root, name in MEMORY_GROUPS:
        group = root / "allora-lab-binder"
        with contextlib.suppress(OSError):
            group.mkdir(exist_ok=True)
            (group / name).write_text(str(LIMIT_MIB * 2**20))
            (group / "cgroup.procs").write_text(str(os.getpid()))
            return True
    return False


def without_network() -> bool:
    """Return whether this process has no network but its own loopback."""
    interfaces = Path("/proc/net/dev").read_text().splitlines()[2:]
    return {line.split(":")[0].strip() for line in interfaces} <= {"lo"}


def enter_without_network() -> None:
    """Run this program again where there is no network, if the machine lets us; else go on."""
    if without_network() or os.environ.get("ALLORA_LAB_BINDER"):
        return
    inner = 'ip link set lo up && exec "$@"'
    command = ["unshare", "--net", "bash", "-c", inner, "bash", sys.executable, *sys.argv]
    try_first = ["unshare", "--net", "bash", "-c", "ip link set lo up"]
    with contextlib.suppress(FileNotFoundError):
        if subprocess.run(try_first, capture_output=True, check=False).returncode == 0:
            os.environ["ALLORA_LAB_BINDER"] = "1"
            os.execvp(command[0], command)


def measure(path: Path) -> dict[str, float]:
    """Run a notebook and its live runs in a fresh kernel; return seconds, live runs, peak in MiB."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(LIVE))
    start = time.perf_counter()
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=1800, resources=where).execute()
    printed = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    lives, kibibytes = map(int, re.search(r"live runs and peak: (\d+) (\d+)", printed).groups())
    return {
        "seconds": time.perf_counter() - start,
        "live": lives,
        "peak": kibibytes / 1024,
    }


def main() -> None:
    """Print a line a notebook; exit with 1 if one would not fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="(all)")
    options = parser.parse_args()
    enter_without_network()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    network = "no network" if without_network() else "WITH the network"
    limit = f"a limit of {LIMIT_MIB} MiB" if limit_memory() else "NO limit of memory"
    print(
        f"one CPU, {network}, {limit}\n{'notebook':44}{'seconds':>8}{'live runs':>11}{'peak MiB':>10}"
    )
    worst = 0.0
    for path in options.notebooks or sorted(NOTEBOOKS.glob("*.ipynb")):
        row = measure(path)
        worst = max(worst, row["peak"])
        print(
            f"{path.stem:44}{row['seconds']:8.0f}{row['live']:11.0f}{row['peak']:10.0f}", flush=True
        )
    total = worst + SERVER_MIB
    print(f"largest kernel {worst:.0f} MiB, with JupyterLab about {total:.0f} of {LIMIT_MIB}")
    sys.exit(total > LIMIT_MIB)


if __name__ == "__main__":
    main()
