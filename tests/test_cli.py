"""The command line as a user types it."""

import json
import re
import subprocess
import sys
from dataclasses import fields

import peft
import pytest

from allora_lab import load_model, load_text
from allora_lab.cli import _parser, main
from allora_lab.config import RunConfig, config_from
from allora_lab.experiments.tasks import evaluation_split
from allora_lab.run_options import config_of
from allora_lab.settings import GROUPS
from allora_lab.training.evaluate import evaluate

SHORT = ["--steps", "2", "--eval-size", "16", "--train-size", "32", "--max-length", "16"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_help_does_not_wait_for_torch():
    program = (
        "import sys; from allora_lab.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in (b"demo", b"run", b"figure", b"data", b"sweep"):
        assert command in done.stdout


BAD = {
    "unknown method": (["run", "--method", "allorra"], "did you mean 'allora'"),
    "bare alora": (["run", "--method", "alora"], "ambiguous"),
    "no method": (["run"], "no method is named"),
    "model": (["run", "--method", "lora", "--model", "minilmm"], "minilm"),
    "data set": (["run", "--method", "lora", "--dataset", "emotions"], "did you mean 'emotion'"),
    "optimizer": (["run", "--method", "lora", "--optimizer", "sdg"], "did you mean 'sgd'"),
    "r 0": (["run", "--method", "lora", "--r", "0"], "r must be at least 1"),
    "r 1000": (["run", "--method", "lora", "--r", "1000"], "r must be at most 384"),
    "eta nan": (["run", "--method", "allora", "--eta-squared", "nan"], "eta_squared must be"),
    "lr": (["run", "--method", "lora", "--lr", "-1"], "lr must be"),
    "dropout": (["run", "--method", "lora", "--lora-dropout", "1"], "lora_dropout must be"),
    "targets": (["run", "--method", "lora", "--target-modules", "q"], "match no linear layer"),
    "no such cpu": (["run", "--method", "lora", "--device", "cpu:foo"], "is no device"),
    "expression": (
        ["run", "--method", "lora", "--target-modules", "(q"],
        "is not a regular expression",
    ),
    "decay": (["run", "--method", "lora", "--weight-decay", "nan"], "weight_decay must be"),
    "huge eta": (["run", "--method", "allora", "--eta-squared", "1e300"], "at most 1e+06"),
    "sweep name": (["sweep", "evil.toml"], "name of a sweep must be letters"),
    "sweep list": (["sweep", "list.toml"], "vary of r must be a list"),
    "list for text": (["run", "--config", "text.toml"], "method must be text"),
    "device": (["run", "--method", "lora", "--device", "tpu"], "no device 'tpu'"),
    "missing TOML": (["run", "--config", "none.toml"], "none.toml"),
    "unknown key": (["run", "--config", "key.toml"], "unknown setting 'lrr': did you mean 'lr'"),
    "malformed": (["run", "--config", "bad.toml"], "is not valid TOML"),
    "figure": (["figure", "escpae"], "did you mean 'escape'"),
    "sweep part": (["sweep", "sweep.toml", "--part", "3"], "part must be from 0 to 0"),
    "flag": (["run", "--method", "lora", "--weight-decai", "1"], "did you mean --weight-decay?"),
    "rank": (["run", "--method", "lora", "--rank", "4"], "did you mean --r?"),
    "learning rate": (["run", "--learning-rate", "1"], "did you mean --lr?"),
    "alpha": (["run", "--method", "lora", "--alpha=8"], "did you mean --lora-alpha?"),
    "flag of plan": (["plan", "minilm", "--rank", "4"], "did you mean --r?"),
    "not a number": (["run", "--method", "lora", "--r", "four"], "must be a whole number"),
    "a word too many": (["run", "--method", "lora", "four"], "not expected"),
    "command": (["rum", "--method", "lora"], "did you mean 'run'"),
    "no method in a file": (["run", "--config", "empty.toml"], "--method allora"),
    "zero eta": (["run", "--method", "allora", "--eta-squared", "0"], "above 0"),
    "minus zero eta": (["run", "--method", "allora", "--eta-squared", "-0.0"], "above 0"),
    "seed": (["run", "--method", "lora", "--seed", "9" * 23], "seed must be at most"),
    "folder for a file": (["run", "--config", "."], "is a folder"),
    "folder for a sweep": (["sweep", "."], "is a folder"),
    "brackets": (["run", "--config", "deep.toml"], "nests"),
    "digits": (["run", "--config", "digits.toml"], "digits.toml"),
    "no UTF-8": (["status", "latin.toml"], "UTF-8"),
    "empty list": (["sweep", "empty-list.toml"], "empty"),
    "no block": (["sweep", "empty.toml"], "[[block]]"),
    "model of a sweep": (["sweep", "model.toml"], "minilm"),
    "data of a sweep": (["sweep", "data.toml"], "did you mean 'emotion'"),
    "device of a sweep": (["sweep", "sweep.toml", "--device", "zz"], "no device 'zz'"),
    "scheduler": (["sweep", "sweep.toml", "--scheduler", "zz"], "tcp://"),
    "device of a figure": (["figure", "escape", "--device", "zz"], "no device 'zz'"),
    "device of the demo": (["demo", "--device", "zz"], "no device 'zz'"),
    "epochs and steps": (["run", "--method", "lora", "--epochs", "1", "--steps", "3"], "both"),
    "no epochs": (["run", "--method", "lora", "--epochs", "0"], "above 0"),
    "r of a plan": (["plan", "minilm", "--r", "9" * 20], "r must be at most"),
    "fetch": (["data", "--fetch", "nytrated"], "did you mean 'nyt_rated'"),
}


def status(words):
    """Return the exit status of a command line, which the parser leaves with itself."""
    try:
        return main(words)
    except SystemExit as left:
        return left.code


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_writes_nothing(case, tmp_path, capsys):
    (tmp_path / "key.toml").write_text('method = "lora"\nlrr = 1.0\n')
    (tmp_path / "bad.toml").write_text("method = lora\n")
    (tmp_path / "sweep.toml").write_text("[[block]]\nset = { method = 'lora' }\n")
    (tmp_path / "evil.toml").write_text("name = '../x'\n[[block]]\nset = { method = 'lora' }\n")
    (tmp_path / "list.toml").write_text("[[block]]\nset = { method = 'lora' }\nvary = { r = 3 }\n")
    (tmp_path / "text.toml").write_text("method = ['lora']\n")
    (tmp_path / "empty.toml").write_text("")
    (tmp_path / "deep.toml").write_text("steps = " + 5000 * "[")
    (tmp_path / "digits.toml").write_text("steps = " + 5000 * "9")
    (tmp_path / "latin.toml").write_bytes("name = 'caf\u00e9'".encode("latin-1"))
    block = "[[block]]\nset = { method = 'lora', %s }\n"
    (tmp_path / "empty-list.toml").write_text(block % "r = 2" + "vary = { seed = [] }\n")
    (tmp_path / "model.toml").write_text(block % "model = 'minilmm'")
    (tmp_path / "data.toml").write_text(block % "dataset = 'emotions'")
    words, message = BAD[case]
    before = sorted(tmp_path.rglob("*"))
    assert status(words) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert error[0].startswith("allora-lab: ")
    assert message in error[0]
    assert [p for p in sorted(tmp_path.rglob("*")) if p not in before and p.is_file()] == []


def test_an_out_folder_that_cannot_be_written_is_refused_before_training(tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    words = ["run", "--method", "lora", *SHORT, "--out", str(tmp_path / "taken")]
    assert main(words) == 2
    assert "cannot write to" in capsys.readouterr().err
    assert (tmp_path / "taken").read_text() == "a file"


def test_run_takes_toml_and_flags_and_writes_a_record(tmp_path, capsys):
    (tmp_path / "run.toml").write_text('method = "allora"\nsteps = 50\neta_squared = 9\n')
    assert main(["run", "--config", "run.toml", *SHORT, "--seed", "3"]) == 0
    (path,) = (tmp_path / "out").glob("*.json")
    record = json.loads(path.read_text())
    assert record["config"]["eta_squared"] == 9.0
    assert record["config"]["steps"] == 2
    assert record["config"]["seed"] == 3
    shown = capsys.readouterr().out
    assert f"dev accuracy {record['metrics']['eval_accuracy']:.3f}" in shown


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's own
def test_run_exports_the_trained_adapter_for_peft(tmp_path, capsys):
    words = ["run", "--method", "alora-magnitude", "--r", "2", *SHORT, "--steps", "3"]
    rounds = "first_round = 2\nround_every = 1\nrounds = 1\nranks_moved = 5\n"
    (tmp_path / "rounds.toml").write_text(rounds)
    assert main([*words, "--config", "rounds.toml", "--export", "adapter"]) == 0
    assert "wrote the adapter as PEFT reads it to adapter" in capsys.readouterr().out
    (path,) = (tmp_path / "out").glob("*.json")
    record = json.loads(path.read_text())
    ranks = {n: r for n, (r,) in record["trace"]["allocation"]["ranks"].items() if r}
    assert len(set(ranks.values())) > 1
    base = load_model("minilm", num_labels=2, seed=1).model  # the head comes with the adapter
    peft.PeftModel.from_pretrained(base, tmp_path / "adapter")  # in place
    found = {n: m for n, m in base.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)}
    assert {n: m.r["default"] for n, m in found.items()} == ranks
    config = config_from(record["config"])
    dataset = load_text(config.dataset)
    split = evaluation_split(config, load_model("minilm"), dataset)
    loss = evaluate(base, split)["loss"]
    assert loss == pytest.approx(record["metrics"]["eval_loss"], abs=1e-6)


def test_a_method_peft_cannot_express_is_refused_before_training(tmp_path, capsys):
    words = ["run", "--method", "asf-lora", *SHORT, "--export", "adapter"]
    assert main(words) == 2
    assert "which a PEFT adapter cannot express" in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_ctrl_c_leaves_a_checkpoint_that_the_same_command_resumes(tmp_path, monkeypatch, capsys):
    import signal

    from allora_lab import commands

    words = ["run", "--method", "allora", *SHORT, "--steps", "3"]
    assert main([*words, "--out", "whole"]) == 0

    def press(_bar, progress):
        if progress.done == 1:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(commands.StepBar, "__call__", press)
        assert main(words) == 130
    assert "resumes from" in capsys.readouterr().out
    assert [p.suffix for p in (tmp_path / "out").iterdir()] == [".safetensors"]
    assert main(words) == 0
    assert "resuming from" in capsys.readouterr().out
    (whole,), (resumed,) = ((tmp_path / name).glob("*.json") for name in ("whole", "out"))
    traces = [json.loads(path.read_text())["trace"] for path in (whole, resumed)]
    assert traces[0] == traces[1]


def test_a_finished_run_is_not_trained_again_and_can_be_exported_later(tmp_path, capsys):
    words = ["run", "--method", "allora", *SHORT]
    assert main([*words, "--export", "first"]) == 0
    (record,) = (tmp_path / "out").glob("*.json")
    before = record.stat().st_mtime_ns, record.read_text()
    capsys.readouterr()
    assert main([*words, "--export", "later"]) == 0
    assert "--fresh" in capsys.readouterr().out
    assert (record.stat().st_mtime_ns, record.read_text()) == before
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "later" / name).read_bytes()

    assert main([*words, "--fresh"]) == 0
    kept = record.with_name(f"{record.stem}.earlier.json")
    assert kept.read_text() == before[1] != record.read_text()

    record.with_suffix(".safetensors").unlink()
    assert main([*words, "--export", "last"]) == 2
    assert "--fresh" in capsys.readouterr().err
    assert not (tmp_path / "last").exists()


def test_a_damaged_record_is_kept_and_the_run_made_again(tmp_path, capsys):
    words = ["run", "--method", "lora", *SHORT]
    assert main(words) == 0
    (record,) = (tmp_path / "out").glob("*.json")
    record.write_text("{}")
    assert main(words) == 0
    assert "damaged" in capsys.readouterr().out
    assert json.loads(record.read_text())["metrics"]
    assert record.with_name(f"{record.stem}.damaged.json").read_text() == "{}"


def test_a_run_on_data_that_changed_is_refused_until_it_is_fresh(tmp_path, capsys):
    data = tmp_path / "rows.csv"
    rows = ["text,label", *(f"row {i},{i % 2}" for i in range(40))]
    data.write_text("\n".join(rows))
    words = ["run", "--method", "lora", *SHORT, "--dataset", str(data)]
    assert main(words) == 0
    data.write_text("\n".join([*rows, "another row,1"]))
    assert main(words) == 2
    assert "changed" in capsys.readouterr().err
    assert main([*words, "--fresh"]) == 0
    assert len([*(tmp_path / "out").glob("*.earlier.json")]) == 1


def test_figure_escape_writes_the_numbers_and_the_picture_from_the_records(tmp_path):
    assert main(["figure", "escape", "--out", "figures"]) == 0
    content = json.loads((tmp_path / "figures" / "escape.json").read_text())
    keys = {"method", "optimizer", "lr", "eta_squared", "steps", "row_norm_mean"}
    keys |= {"eval_accuracy", "train_seconds", "seed"}
    assert len(content["runs"]) == 7
    assert all(keys <= row.keys() for row in content["runs"])
    assert len(content["sentences"]) == 3
    assert (tmp_path / "figures" / "escape.png").read_bytes().startswith(b"\x89PNG")


def test_figures_and_data_and_sweeps_are_listed(tmp_path, capsys):
    assert main(["figure", "--list"]) == 0
    assert "escape" in capsys.readouterr().out
    assert main(["data"]) == 0
    shown = capsys.readouterr().out
    assert "rotten_tomatoes_rated" in shown
    assert "sha256" in shown
    (tmp_path / "s.toml").write_text(
        "[[block]]\nset = { method = 'lora' }\nvary = { r = [1, 2] }\n"
    )
    assert main(["sweep", "s.toml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "s: 2 runs, 1 of this share to run" in said  # rank 2 is recorded in results/escape
    assert main(["status", "s.toml"]) == 0
    assert re.search(r"^s +2 +1 +0 +0 +1$", capsys.readouterr().out, re.MULTILINE)


def test_an_error_of_a_library_is_a_bug_and_leaves_with_its_traceback(monkeypatch):
    import torch

    def refuse(*_arguments, **_settings):
        raise ValueError("a library's own words")

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", refuse)
    with pytest.raises(ValueError, match="own words") as caught:
        main(["run", "--method", "lora", *SHORT])
    assert "bug" in caught.value.__notes__[0]


def test_only_a_raise_of_this_package_or_the_system_speaks_to_the_user(tmp_path):
    from allora_lab.checks import is_for_the_user, require_at_least
    from allora_lab.commands import print_table

    def raised(call, *arguments):
        with pytest.raises((ValueError, OSError)) as caught:
            call(*arguments)
        return is_for_the_user(caught.value)

    assert raised(require_at_least, "r", 0, 1)
    assert raised((tmp_path / "none").read_text)
    assert not raised(int, "x")
    # a builtin's own error, though the innermost frame is ours
    assert not raised(print_table, [{"a": 1}, {"a": 1, "b": 2}])


def test_debug_shows_the_traceback_of_bad_input_as_well(capsys):
    assert main(["run", "--method", "allorra", "--debug"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.splitlines()[-1].startswith("allora-lab: ")


def test_epochs_become_steps_of_the_rows_there_are(tmp_path):
    words = ["run", "--method", "lora", *SHORT[2:], "--batch-size", "8", "--epochs", "1.5"]
    assert main([*words, "--gradient-accumulation-steps", "2"]) == 0
    (path,) = (tmp_path / "out").glob("*.json")
    config = json.loads(path.read_text())["config"]
    assert "epochs" not in config
    assert config["steps"] == 3  # 32 sentences, 8 in a batch, 2 batches in a step
    assert config_from(config).run_id == path.stem


def configured(words):
    return config_of(_parser().read(["run", *words]))


def test_flags_win_over_a_file_and_lists_are_written_either_way(tmp_path):
    (tmp_path / "run.toml").write_text('method = "lora"\nepochs = 2\ncompile = true\n')
    file = ["--config", "run.toml"]
    assert configured([*file, "--steps", "7"]).steps == 7
    assert configured([*file, "--batch-size", "4096"]).steps == 2
    assert not configured([*file, "--steps", "7", "--no-compile"]).compile
    names = configured([*file, "--target-modules", "query,value"])
    assert names == configured([*file, "--target-modules", "query", "value"])
    expression = configured([*file, "--target-modules", r".*\.(query|value){1,2}"])
    assert expression.target_modules == r".*\.(query|value){1,2}"


def test_every_setting_has_a_flag_with_help(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    shown = capsys.readouterr().out
    for field in fields(RunConfig):
        assert f"--{field.name.replace('_', '-')}" in shown
        assert field.metadata["help"].split()[0] in shown
    for group in GROUPS:
        assert f"\n{group}:\n" in shown
