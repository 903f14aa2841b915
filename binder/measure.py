"""What every notebook takes of a Binder pod: peak memory and seconds, its live runs included.

    make binder

runs `binder/start` as the image does, each notebook in a kernel of its own on one CPU, presses every
button that starts a live run, waits until it has ended, and records the kernel's peak, and JupyterLab's
own.  Where it may (as root on Linux) it takes the network away and sets the pod's limit of 2 GB, so that
what passes here passes there; it says which of the two it could do.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parent / "notebooks"
LIMIT_MIB = 2048
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


def server_mib() -> float:
    """Return the peak memory of JupyterLab's own process when it has served its page, in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--port=0", "--allow-root"]
        server = subprocess.Popen(
            command,
            env={**os.environ, "JUPYTER_RUNTIME_DIR": folder},
            cwd=NOTEBOOKS,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not (found := list(Path(folder).glob("jpserver-*.json"))):
                if server.poll() is not None:
                    raise SystemExit("JupyterLab does not start: run jupyter lab to see why")
                time.sleep(0.2)
            where = json.loads(found[0].read_text())
            urllib.request.urlopen(f"{where['url']}lab?token={where['token']}", timeout=60).close()
            status = Path(f"/proc/{server.pid}/status").read_text()
            return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
        finally:
            server.terminate()
            server.wait()


def write_record(path: Path, rows: dict[str, dict[str, float]], limits: str) -> None:
    """Write what was measured; `rows` has seconds, live runs and peak of each process by its name."""
    from allora_lab.experiments.benchmarks import write_measured  # torch counts towards the limit

    measured = {name: [round(row["peak"], 1)] for name, row in rows.items()}
    shown = {name: [round(row["seconds"]), row["live"]] for name, row in rows.items()}
    setting = {"limits": limits, "allowed": LIMIT_MIB, "seconds and live runs": shown}
    compared = "the peak memory of every notebook's kernel with its live runs, and of JupyterLab"
    write_measured(
        path, {"compared": compared, "unit": "MiB", "measured": measured, "setting": setting}
    )


def main() -> None:
    """Print a line for each notebook, record them, and exit with 1 if one would not fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="(all)")
    parser.add_argument("--json", type=Path, help="write the record here")
    options = parser.parse_args()
    enter_without_network()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    network = "no network" if without_network() else "WITH the network"
    limit = f"a limit of {LIMIT_MIB} MiB" if limit_memory() else "NO limit of memory"
    limits = f"one CPU, {network}, {limit}"
    print(f"{limits}\n{'notebook':44}{'seconds':>8}{'live runs':>11}{'peak MiB':>10}")
    rows, server = {}, server_mib()
    for path in options.notebooks or sorted(NOTEBOOKS.glob("*.ipynb")):
        row = rows[path.stem] = measure(path)
        print(
            f"{path.stem:44}{row['seconds']:8.0f}{row['live']:11.0f}{row['peak']:10.0f}", flush=True
        )
    worst = max(row["peak"] for row in rows.values())
    total = worst + server
    print(f"largest kernel {worst:.0f} MiB, with JupyterLab {total:.0f} of {LIMIT_MIB}")
    if options.json:
        rows["JupyterLab"] = {"seconds": 0, "live": 0, "peak": server}
        write_record(options.json, rows, limits)
    sys.exit(total > LIMIT_MIB)


if __name__ == "__main__":
    main()
