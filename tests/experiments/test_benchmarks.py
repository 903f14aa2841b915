"""Benchmarks write records, and the documents' sentences are made of nothing else."""

import importlib.util
import json
import subprocess
import sys

import pytest

from allora_lab.experiments import benchmarks
from allora_lab.files import REPOSITORY

SENTENCES = {
    "throughput": benchmarks.throughput_sentences,
    "gradient-variance": benchmarks.mask_sentences,
    "panels": benchmarks.redraw_sentences,
    "scores": benchmarks.score_sentences,
    "binder": benchmarks.binder_sentences,
}
LOOP = {
    "allora_lab": [2.0, 4.0, 3.0],
    "PEFT + Trainer": [4.0, 6.0, 9.0],  # 2, 1.5 and 3 times, round by round
    "PEFT + Trainer, by length": [2.0, 4.0, 3.0],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    return tmp_path / "benchmarks"


def write(folder, name, measured, **setting):
    figures = {"compared": "", "unit": "seconds", "measured": measured, "setting": setting}
    benchmarks.write_measured(folder / f"{name}.json", figures)


def throughput(folder):
    write(
        folder,
        "throughput",
        LOOP,
        sentences=1024,
        tokens=30_000,
        tokens_at_random=40_000,
        floor_seconds=1.5,
    )
    return folder / "throughput.json"


@pytest.mark.parametrize("name", SENTENCES)
def test_without_a_record_it_says_so_and_how_to_make_one(folder, name):
    assert "is not recorded yet: `make b" in SENTENCES[name]()


def test_a_ratio_is_formed_within_each_round(folder):
    throughput(folder)
    said = benchmarks.throughput_sentences()
    assert "2.00 (3 rounds: 1.50 to 3.00)" in said
    assert "1.00 (3 rounds: 1.00 to 1.00)" in said
    assert "50%" in said


def test_a_record_says_where_and_of_which_code(folder):
    values = json.loads(throughput(folder).read_text())
    assert values["device"].startswith("cpu:")
    assert {"torch", "peft", "python"} <= values["packages"].keys()
    assert values["finished_at"].startswith("20")
    assert {"code_commit", "code_dirty"} <= values.keys()


def test_a_failed_write_leaves_the_record_as_it_was(folder):
    path = throughput(folder)
    before = path.read_text()
    with pytest.raises(ValueError, match="JSON"):
        write(folder, "throughput", {"allora_lab": [float("nan")]})
    assert path.read_text() == before
    assert [p.name for p in folder.iterdir()] == ["throughput.json"]


def program(path):
    """Return a program of this repository as a module, without running it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_panels_are_quoted_from_their_record(folder):
    write(folder, "panels", {"one": [0.010, 0.030, 0.011], "two": [0.050]})
    assert "2 panels redraw in 11 to 50 ms" in benchmarks.redraw_sentences()


def test_scores_are_quoted_from_their_record(folder, monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    scores = program(REPOSITORY / "benchmarks" / "scores.py")
    turns = [{"wall": 9.0, "cpu": 1.0}, {"wall": 9.0, "cpu": 3.0}]
    row = {"plain_seconds": {"wall": 9.0, "cpu": 12.0}, "replayed_seconds": turns}
    figures = scores.record_of({"padded": row, "one length": row}, 288, 2)
    benchmarks.write_measured(folder / "scores.json", figures)
    assert "288 ranks" in benchmarks.score_sentences()
    assert "6.00 (one round" in benchmarks.score_sentences()


def test_binder_is_quoted_from_its_record(folder):
    measure = program(REPOSITORY / "binder" / "measure.py")
    peaks = {"06_norms": 782.0, "08_ranks": 1510.2, "00_start": 443.4, "JupyterLab": 92.0}
    rows = {name: {"seconds": 1.0, "live": 1, "peak": peak} for name, peak in peaks.items()}
    measure.write_record(folder / "binder.json", rows, "one CPU, no network")
    said = benchmarks.binder_sentences()
    assert "one CPU, no network) 3 notebooks" in said
    assert "Notebook 08 peaked at 1,510 MiB, the others 443 to 782" in said
    assert "JupyterLab itself takes 92" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("{", "JSON"),
        ("[]", "delete it"),
        ({"more": 1}, "version"),
        ({"measured": {}}, "positive"),
        ({"measured": {"a": []}}, "positive"),
        ({"measured": {"a": ["1"]}}, "positive"),
        ({"measured": {"a": [-1.0]}}, "positive"),
        ({"measured": {"a": [True]}}, "positive"),
        ({"device": None}, "device"),
    ],
)
def test_what_is_no_record_is_refused_in_one_sentence(folder, change, words):
    path = throughput(folder)
    text = change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change)
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as raised:
        benchmarks.throughput_sentences()
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_device_from_outside_is_text_in_the_document(folder):
    path = throughput(folder)
    values = json.loads(path.read_text()) | {"device": "<img src=x onerror=alert(1)>\n\n| a |"}
    path.write_text(json.dumps(values))
    said = benchmarks.throughput_sentences()
    assert "<img" not in said
    assert "\n" not in said


def test_a_record_without_a_contender_is_refused(folder):
    write(folder, "throughput", {"allora_lab": [1.0]}, sentences=1)
    with pytest.raises(ValueError, match="PEFT"):
        benchmarks.throughput_sentences()


def test_records_of_this_repository_are_of_committed_code():
    for path in (REPOSITORY / "results" / "benchmarks").glob("*.json"):
        assert path.stem in SENTENCES
        assert json.loads(path.read_text())["code_dirty"] is False, path


@pytest.mark.parametrize("name", ["throughput", "gradient-variance", "panels"])
def test_a_tiny_run_makes_a_record_that_is_quoted(folder, name):
    path = REPOSITORY / "benchmarks" / f"{name.replace('-', '_')}.py"
    target = str(folder / f"{name}.json")
    command = [sys.executable, str(path), "--tiny", "--rounds", "1", "--json", target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "not recorded" not in SENTENCES[name]()
