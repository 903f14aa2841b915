"""Records of a sweep with anything in them: `status` goes on, `tables` says which file and field."""

import json
from pathlib import Path

from hypothesis import example, given

from allora_lab.experiments.records import read_record

from .outcome import altered, command_ends_well, damaged, empty_folder, speaks_or_succeeds

RESULTS = Path(__file__).parents[2] / "results"
PATH = min((RESULTS / "learning-rate").glob("*.json"))
RECORD = json.loads(PATH.read_text())


def changed(**fields):
    return json.dumps({**RECORD, **fields}).encode()


def sweep_of_the_record():
    """Return the text of a sweep whose one run is the record's."""
    config = {k: v for k, v in RECORD["config"].items() if v is not None}
    lines = (f"{key} = {json.dumps(value)}" for key, value in config.items())
    return "[[block]]\n[block.set]\n" + "\n".join(lines) + "\n"


@given(content=altered(RECORD).map(lambda v: json.dumps(v).encode()) | damaged(PATH.read_bytes()))
@example(content=b"")
@example(content=b"\xff")
@example(content=b"[]")
@example(content=changed(config=None))
@example(content=changed(config=[]))
@example(content=changed(metrics={"eval_accuracy": float("nan"), "eval_loss": 1.0}))
@example(content=changed(metrics={"eval_accuracy": -5.0, "eval_loss": 1.0}))
@example(content=changed(metrics=3))
@example(content=changed(trace=[]))
@example(content=changed(run_id=3))
@example(content=changed(device="<img src=x onerror=alert(1)>"))
def test_a_record_is_read_or_refused_in_one_sentence(content):
    with empty_folder() as folder:
        path = folder / "results" / "mine" / PATH.name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        speaks_or_succeeds(lambda: read_record(path))
        (folder / "mine.toml").write_text(sweep_of_the_record(), encoding="utf-8")
        command_ends_well(["status", "mine.toml"])
        command_ends_well(["tables", "mine.toml", "--out", "out"], folder / "out")


@given(content=altered(RECORD).map(lambda v: json.dumps(v).encode()) | damaged(PATH.read_bytes()))
@example(content=b"")
def test_a_record_in_another_folder_does_not_stop_a_sweep(content):
    with empty_folder() as folder:
        path = folder / "results" / "other" / PATH.name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        (folder / "mine.toml").write_text(sweep_of_the_record(), encoding="utf-8")
        assert command_ends_well(["status", "mine.toml"]) == 0


def test_the_sweep_is_of_the_record():
    with empty_folder() as folder:
        path = folder / "results" / "mine" / PATH.name
        path.parent.mkdir(parents=True)
        path.write_bytes(PATH.read_bytes())
        (folder / "mine.toml").write_text(sweep_of_the_record(), encoding="utf-8")
        assert command_ends_well(["tables", "mine.toml", "--out", "out"]) == 0
        assert len(list((folder / "out").iterdir())) == 2
