"""Without the hub a hub id fails soon and in one sentence; with it, or cached, it loads."""

import hashlib
import http.server
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from allora_lab.models import hub
from allora_lab.models.load import load_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Accept connections, as the system does for a listener, and never answer one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def set_endpoint(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    endpoint = f"http://127.0.0.1:{port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def cache(folder: Path, into: Path, name: str = "some-lab/tiny") -> None:
    """Lay a folder into a Hugging Face cache as the hub's own client does."""
    repo = into / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repo / "snapshots" / COMMIT)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)


def assert_refused_soon(load: Callable[[], object]) -> str:
    started = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        load()
    assert time.monotonic() - started < 10
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_closed_port_is_refused_with_the_ways_out(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    set_endpoint(monkeypatch, port)
    said = assert_refused_soon(lambda: load_model("Qwen/Qwen2-0.5B"))
    for way in ("minilm", "local folder", "HF_ENDPOINT", "cache folder", "Qwen/Qwen2-0.5B"):
        assert way in said


def test_a_hub_that_accepts_and_never_answers_does_not_hang(
    monkeypatch: pytest.MonkeyPatch, silent_port: int
):
    set_endpoint(monkeypatch, silent_port)
    assert "timed out" in assert_refused_soon(lambda: load_model("Qwen/Qwen2-0.5B"))


def test_a_name_look_up_that_hangs_does_not_hang_the_caller(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "WAIT_SECONDS", 0.2)
    forever = threading.Event()
    monkeypatch.setattr(hub, "_probe", lambda endpoint, reasons: forever.wait(30))
    said = assert_refused_soon(lambda: hub.require_hub("the model a/b"))
    forever.set()
    assert "no answer within 0.2 seconds" in said


def test_offline_mode_is_refused_at_once_and_asks_nobody(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "_probe", lambda endpoint, reasons: pytest.fail("it asked"))
    assert "HF_HUB_OFFLINE is set" in assert_refused_soon(lambda: load_model("a/b"))


def test_an_endpoint_that_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "ENDPOINT", "nonsense")
    assert "unknown url type" in assert_refused_soon(lambda: hub.require_hub("the model a/b"))


def test_a_cached_model_loads_without_a_hub_and_is_named_by_its_commit(
    tiny_folder: Callable[[str], Path],
    empty_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    cache(tiny_folder("gpt2"), empty_cache)
    monkeypatch.setattr(hub, "_probe", lambda endpoint, reasons: pytest.fail("it asked"))
    loaded = load_model("some-lab/tiny", "causal-lm")
    assert (loaded.name, loaded.revision) == ("some-lab/tiny", COMMIT)
    assert loaded.source == "the Hugging Face hub"
    assert load_model("some-lab/tiny", revision=COMMIT).revision == COMMIT


def test_a_model_cached_in_part_is_not_taken_for_a_whole_one(
    tiny_folder: Callable[[str], Path],
    empty_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    folder = tiny_folder("gpt2")
    (folder / "model.safetensors").unlink()
    cache(folder, empty_cache)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_refused_soon(lambda: load_model("some-lab/tiny"))


class FakeHub(http.server.BaseHTTPRequestHandler):
    """Answer as the hub does for one repository, some-lab/tiny, whose files lie in `folder`."""

    folder: Path
    status_of_root = 200
    status_of_files = 200

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in ("", "/"):
            self.answer(self.status_of_root, b"")
        elif path.startswith("/api/models/some-lab/tiny/tree/"):
            rows = [
                {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": self.etag(p)}
                for p in sorted(self.folder.iterdir())
            ]
            self.answer(200, json.dumps(rows).encode())
        elif path.startswith("/api/models/some-lab/tiny"):
            names = [{"rfilename": path.name} for path in sorted(self.folder.iterdir())]
            body = {"id": "some-lab/tiny", "sha": COMMIT, "siblings": names}
            self.answer(200, json.dumps(body).encode())
        elif path.startswith(f"/some-lab/tiny/resolve/{COMMIT}/"):
            file = self.folder / path.rpartition("/")[2]
            self.answer(self.status_of_files, file.read_bytes(), etag=self.etag(file))
        else:
            self.answer(404, b"", code="RepoNotFound")

    @staticmethod
    def etag(path: Path) -> str:
        return hashlib.sha1(path.read_bytes()).hexdigest()

    def answer(self, status: int, body: bytes, etag: str = "x", code: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeHub]]:
    handler = type("Handler", (FakeHub,), {"folder": tmp_path})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        set_endpoint(monkeypatch, server.server_port)
        yield handler
        server.shutdown()


def test_an_id_the_hub_does_not_have_is_said_so(fake_hub: type[FakeHub]):
    with pytest.raises(ValueError, match="has no public model 'some-lab/tiyn'") as caught:
        load_model("some-lab/tiyn")
    assert "\n" not in str(caught.value)


def test_a_hub_that_only_answers_with_errors_counts_as_unreachable(fake_hub: type[FakeHub]):
    fake_hub.status_of_root = 503
    assert "it answers 503" in assert_refused_soon(lambda: load_model("some-lab/tiny"))


def test_a_model_is_fetched_once_and_then_loads_from_the_cache(
    tiny_folder: Callable[[str], Path],
    fake_hub: type[FakeHub],
    monkeypatch: pytest.MonkeyPatch,
):
    fake_hub.folder = tiny_folder("llama")
    assert load_model("some-lab/tiny", "causal-lm").revision == COMMIT
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_model("some-lab/tiny", "causal-lm").revision == COMMIT


def test_a_download_that_breaks_off_is_said_so_in_one_sentence(
    tiny_folder: Callable[[str], Path], fake_hub: type[FakeHub]
):
    fake_hub.folder, fake_hub.status_of_files = tiny_folder("llama"), 403
    with pytest.raises(ConnectionError, match="broke off") as caught:
        load_model("some-lab/tiny", "causal-lm")
    assert "\n" not in str(caught.value)
