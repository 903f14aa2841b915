"""Records are checked when they are read; a damaged one stops nothing, counts as none, and is kept."""

import json
import shutil

import pytest

from allora_lab.cli import main
from allora_lab.experiments.records import find_record, read_record, record_path
from allora_lab.experiments.sweep import read_sweep
from allora_lab.experiments.sweep_run import checkpoint_path
from allora_lab.files import results_folder
from allora_lab.locks import claimed

SWEEP = """
name = "s"
[base]
steps = 1
train_size = 16
eval_size = 4
max_length = 8
[[block]]
set = { method = "lora" }
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Give a folder with a sweep and its one record."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "s.toml").write_text(SWEEP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLORA_LAB_RESULTS", str(folder / "results"))
        assert main(["sweep", str(folder / "s.toml"), "--device", "cpu"]) == 0
    return folder


@pytest.fixture
def sweep_file(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path / "copy" / "results"))
    return tmp_path / "copy" / "s.toml"


def own_record(sweep_file):
    return record_path("s", read_sweep(sweep_file).configs[0])


DAMAGE = {
    "config": lambda v: v.update(config=None),
    "metrics": lambda v: v.update(metrics=[None]),
    "train_seconds": lambda v: v.update(train_seconds="x"),
    "finished_at": lambda v: v.update(finished_at="yesterday"),
    "packages": lambda v: v.update(packages=[1]),
    "trainable_parameters": lambda v: v.update(trainable_parameters=True),
    "eval_accuracy": lambda v: v["metrics"].update(eval_accuracy=float("nan")),
    "metrics.eval_accuracy": lambda v: v["metrics"].update(eval_accuracy=-5),
    "metrics.eval_loss": lambda v: v["metrics"].update(eval_loss=10**400),
    "from 0 to 1": lambda v: v["metrics"].update(eval_accuracy=1e308),
    "trace": lambda v: v.update(trace=7),
    "trace.loss": lambda v: v["trace"].update(loss=[0.1, 0.2, 0.3]),
    "trace.layers": lambda v: v["trace"].update(layers={"a": {"norm_A": ["x"]}}),
    "device": lambda v: v.pop("device"),
    "note": lambda v: v.update(note="x"),
}


@pytest.mark.parametrize("field", DAMAGE)
def test_a_record_with_an_impossible_value_is_refused_with_file_field_and_remedy(
    field, sweep_file, tmp_path
):
    values = json.loads(own_record(sweep_file).read_text())
    DAMAGE[field](values)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="run again") as refused:
        read_record(path)
    assert str(path) in str(refused.value)
    if field != "eval_accuracy":  # NaN is no JSON, so the place is a byte's
        assert field in str(refused.value)


CONTENTS = {
    "empty": b"",
    "cut": b'{"run_id": "x',
    "not UTF-8": bytes([0x80]),
    "nested": b"[" * 100_000,
    "huge number": b"1" * 10_000,
    "another kind": b"[1]",
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_damaged_file_of_the_same_name_in_another_folder_stops_nothing(
    content, sweep_file, tmp_path, capsys
):
    other = results_folder() / "other" / own_record(sweep_file).name
    other.parent.mkdir()
    other.write_bytes(content)
    assert main(["status", str(sweep_file)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["s", *"11000"]
    assert main(["tables", str(sweep_file), "--out", str(tmp_path / "out")]) == 0
    own_record(sweep_file).unlink()
    capsys.readouterr()
    assert main(["sweep", str(sweep_file), "--dry-run"]) == 0
    assert "1 of this share to run" in capsys.readouterr().out


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_damaged_record_is_listed_and_counts_as_none(content, sweep_file, tmp_path, capsys):
    path = own_record(sweep_file)
    path.write_bytes(content)
    assert main(["status", str(sweep_file)]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[1].split() == ["s", *"10001"]
    assert str(path) in said
    assert main(["tables", str(sweep_file), "--out", str(tmp_path / "out")]) == 0
    assert str(path) in capsys.readouterr().out
    assert path.read_bytes() == content


def test_a_damaged_record_is_made_again_and_kept_under_another_name(sweep_file):
    path = own_record(sweep_file)
    before = read_record(path)
    path.write_text("{}")
    assert main(["sweep", str(sweep_file), "--device", "cpu"]) == 0
    assert read_record(path).trace == before.trace
    assert path.with_name(f"{path.stem}.damaged.json").read_text() == "{}"


def test_a_run_that_another_process_is_making_is_left_to_it(sweep_file, capsys):
    config = read_sweep(sweep_file).configs[0]
    own_record(sweep_file).unlink()
    with claimed(checkpoint_path("s", config)):
        assert main(["sweep", str(sweep_file), "--device", "cpu"]) == 0
    assert "another process" in capsys.readouterr().out
    assert find_record("s", config) is None


def rows(path, word):
    lines = [json.dumps({"text": f"{word} {i}", "label": i % 2}) for i in range(40)]
    path.write_text("\n".join(lines))


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """Give a user's file of rows and the sweep over it, whose one run is recorded."""
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path / "results"))
    data, file = tmp_path / "rows.jsonl", tmp_path / "s.toml"
    rows(data, "old")
    file.write_text(SWEEP.replace("[base]", f'[base]\ndataset = "{data}"'))
    assert main(["sweep", str(file), "--device", "cpu"]) == 0
    return data, file


def test_a_run_on_data_that_changed_is_made_again_and_the_old_record_kept(own_data, capsys):
    data, file = own_data
    path = own_record(file)
    old = path.read_text()
    rows(data, "new")
    capsys.readouterr()
    assert main(["status", str(file)]) == 0
    assert "changed" in capsys.readouterr().out
    assert main(["sweep", str(file), "--device", "cpu"]) == 0
    assert "changed" in capsys.readouterr().out
    assert path.with_name(f"{path.stem}.earlier.json").read_text() == old
    assert read_record(path).dataset_revision != json.loads(old)["dataset_revision"]
    assert main(["sweep", str(file), "--device", "cpu"]) == 0
    assert "0 of this share to run" in capsys.readouterr().out


def test_data_that_is_gone_leaves_its_record_valid(own_data):
    data, file = own_data
    plan = read_sweep(file)
    data.unlink()
    assert plan.pending() == []
