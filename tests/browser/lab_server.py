"""A JupyterLab of its own: on loopback, on a free port, over a copy of the notebooks."""

import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
LINKED = ("allora_lab", "docs", "results", "sweeps", "README.md")
SETTINGS = {
    "apputils-extension/themes": {"theme": "JupyterLab Light"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell stands in the page
    "docmanager-extension/plugin": {"autosave": False},
}


@dataclass(frozen=True)
class LabServer:
    """Where a running JupyterLab is, what opens it, and the folder that it shows."""

    url: str
    token: str
    root: Path

    def page_of(self, path: str) -> str:
        """Return the address of a file, as a reader's browser has it after `make lab`."""
        return f"{self.url}/lab/tree/{path}?token={self.token}"

    def end_kernels(self) -> None:
        """End every kernel, so that the next notebook has the machine for itself."""
        for session in json.load(self._call("api/sessions")):
            self._call(f"api/sessions/{session['id']}", "DELETE")

    def _call(self, path: str, method: str = "GET") -> http.client.HTTPResponse:
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(f"{self.url}/{path}", headers=headers, method=method)
        return urllib.request.urlopen(request, timeout=30)


def copy_of_the_lab(folder: Path) -> Path:
    """Lay out a root as the repository's: notebooks copied, all they link to linked."""
    root = folder / "root"
    shutil.copytree(
        REPOSITORY / "notebooks",
        root / "notebooks",
        ignore=shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__"),
    )
    for name in LINKED:
        (root / name).symlink_to(REPOSITORY / name)
    return root


def write_settings(folder: Path, theme: str) -> None:
    """Write the settings that keep the page the same on every machine."""
    settings = {**SETTINGS, "apputils-extension/themes": {"theme": f"JupyterLab {theme.title()}"}}
    for name, values in settings.items():
        path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_it_answers(server: LabServer, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            server._call("api")
        except (urllib.error.URLError, ConnectionError):
            if process.poll() is not None:
                break
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"JupyterLab did not start; its last words:\n{log.read_text()[-2000:]}")


@contextmanager
def running_lab(folder: Path, theme: str) -> Iterator[LabServer]:
    """Start JupyterLab over a copy of the notebooks; it and its kernels end with the context."""
    write_settings(folder / "settings", theme)
    root = copy_of_the_lab(folder)
    server = LabServer(f"http://127.0.0.1:{free_port()}", secrets.token_hex(16), root)
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": server.url.rpartition(":")[2],
        "ServerApp.port_retries": "0",
        "ServerApp.root_dir": str(root),
        "IdentityProvider.token": server.token,
        "LabApp.user_settings_dir": str(folder / "settings"),
        "LabApp.workspaces_dir": str(folder / "workspaces"),
        "LabApp.extension_manager": "readonly",
    }
    own = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    environment = {
        **os.environ,
        **{name: str(folder / name.lower()) for name in own},
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
    }
    words = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    words += [f"--{name}={value}" for name, value in options.items()]
    log = folder / "jupyterlab.log"
    with log.open("w") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=stream, env=environment)
    try:
        wait_until_it_answers(server, process, log)
        yield server
    finally:
        process.terminate()  # asked to end, it ends its kernels first
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
