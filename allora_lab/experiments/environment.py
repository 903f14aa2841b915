"""Where a run was made: device, versions, commit, memory."""

import platform
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from allora_lab import __version__
from allora_lab.files import REPOSITORY

PACKAGES = ("torch", "transformers", "numpy", "safetensors")
CODE = ("allora_lab", "pyproject.toml", "constraints.txt")  # what can change a number


def resolve_device(name: str) -> torch.device:
    """Return the device of `cpu`, `cuda`, `cuda:N`, `mps` or `auto` (the first there is).

    Raises ValueError when the machine has no such device.
    """
    if name == "auto":
        mps = "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device("cuda" if torch.cuda.is_available() else mps)
    kind = name.split(":")[0]
    is_there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not is_there.get(kind, False):
        here = ", ".join(["auto", *(k for k, v in is_there.items() if v)])
        raise ValueError(f"there is no device {name!r} here: choose one of {here}")
    try:
        return torch.device(name)
    except RuntimeError:
        raise ValueError(f"{name!r} is no device: write {kind}, or {kind}:0") from None


def device_name(device: torch.device) -> str:
    """Return the processor's name for people, with the threads a CPU run uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [ln for ln in cpuinfo.read_text().splitlines() if ln.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    threads = torch.get_num_threads()
    return f"{device.type}: {model}, {threads} thread{'s' if threads > 1 else ''}"


def code_version(*also: str) -> tuple[str | None, bool | None]:
    """Return the commit and whether the code differs from it; None, None outside a checkout.

    `also` names folders that count as code besides the package.
    """

    def git(*words: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", *CODE, *also))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def peak_memory_bytes(device: torch.device) -> int:
    """Return the largest memory in use so far: of the GPU's allocator, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak_memory(device: torch.device) -> None:
    """Start the peak anew, so that a run among many reports its own; on a CPU, where Linux allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # the peak is then the process's


def package_versions() -> dict[str, str]:
    """Return the versions that can change a number, and Python's."""
    ours = {"python": platform.python_version(), "allora-lab": __version__}
    return {**ours, **{name: version(name) for name in PACKAGES}}
