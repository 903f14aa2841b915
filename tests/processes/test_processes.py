"""Two processes share a run: the numbers are those of one with the whole batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from allora_lab.adapters.base import AdaptedLinear
from allora_lab.adapters.inject import adapter_state_dict
from allora_lab.cli import main
from allora_lab.config import RunConfig
from allora_lab.experiments.runner import run
from allora_lab.training.processes import ALONE, Processes, labels_in

from .launched import STEPS, batch_at, decoder, trained

RUN = [
    *(
        "run",
        "--method",
        "allora-update",
        "--steps",
        "3",
        "--batch-size",
        "8",
        "--train-size",
        "32",
    ),
    *("--eval-size", "16", "--max-length", "16", "--eval-every", "2"),
]


def launch(*words, cwd, processes=2):
    """Run a program on so many processes, as a user does, and return what it printed."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    words = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", *map(str, words)]
    return subprocess.run(
        [*launcher, *words],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes made of the tiny decoder, and the folder it is in."""
    folder = tmp_path_factory.mktemp("pair")
    done = launch(Path(__file__).with_name("launched.py"), folder, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, [json.loads((folder / f"rank{k}.json").read_text()) for k in range(2)]


def test_two_processes_train_to_the_weights_of_one_with_the_whole_batch(pair):
    folder, _ = pair
    model, _ = trained(ALONE)
    start, alone = adapter_state_dict(decoder()), adapter_state_dict(model)
    for rank in range(2):
        found = load_file(folder / f"rank{rank}.safetensors")
        assert found.keys() == alone.keys()
        for name, tensor in alone.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=2e-6)
    assert max((alone[n] - start[n]).abs().max().item() for n in alone) > 0.005


def test_the_loss_that_is_traced_is_the_whole_batchs_in_every_process(pair):
    _, trace = trained(ALONE)
    for found in pair[1]:
        assert found["trace"]["loss"] == pytest.approx(trace["loss"], abs=2e-5)
        assert found["device"] == "cpu"


def test_only_what_trains_is_sent_with_the_loss_and_the_count(pair):
    trainable = sum(p.numel() for p in decoder().parameters() if p.requires_grad)
    assert [found["most_sent"] for found in pair[1]] == [trainable + 2] * 2
    assert trainable < sum(p.numel() for p in decoder().parameters()) / 4


def test_one_process_that_stops_stops_all_at_one_step_and_they_resume(pair):
    folder, found = pair
    assert [one["stopped_at"] for one in found] == [2, 2]
    assert [one["resumed_loss"] for one in found] == [one["trace"]["loss"] for one in found]
    for rank in range(2):
        whole = load_file(folder / f"rank{rank}.safetensors")
        resumed = load_file(folder / f"rank{rank}-resumed.safetensors")
        assert all(torch.equal(tensor, whole[name]) for name, tensor in resumed.items())


def test_models_that_differ_are_refused_by_every_process(pair):
    for found in pair[1]:
        assert "do not start from the same step and the same weights" in found["refusal"]


def test_the_command_on_two_processes_writes_one_record_with_the_numbers_of_one(tmp_path):
    assert main([*RUN, "--out", str(tmp_path / "one"), "--device", "cpu"]) == 0
    done = launch(
        "-m", "allora_lab", *RUN, "--out", tmp_path / "two", "--export", "two/peft", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("wrote ") == 2  # the record and the adapter, by the first alone
    (one,), (two,) = ((tmp_path / name).glob("*.json") for name in ("one", "two"))
    assert one.name == two.name
    one, two = json.loads(one.read_text()), json.loads(two.read_text())
    assert (one["processes"], two["processes"]) == (1, 2)
    assert two["trace"]["loss"] == pytest.approx(one["trace"]["loss"], abs=2e-5)
    assert two["metrics"] == pytest.approx(one["metrics"], abs=1e-4)
    assert two["trace"]["row_norm_mean"] == pytest.approx(one["trace"]["row_norm_mean"], rel=1e-4)
    assert list(two["trace"]["evaluations"]["step"]) == [0, 2]
    assert len(list((tmp_path / "two").glob("*.safetensors"))) == 1  # the trained adapters


def test_a_share_is_every_nth_row_and_all_shares_are_the_batch():
    batch = batch_at(0)
    shares = [Processes(rank, 4).share(batch) for rank in range(4)]
    assert [len(share["labels"]) for share in shares] == [2, 2, 1, 1]
    assert sum(map(labels_in, shares)) == labels_in(batch) == 1 + 2 + 3 + 4 + 5 + 6
    assert torch.equal(shares[1]["input_ids"], batch["input_ids"][[1, 5]])
    assert labels_in({"labels": torch.zeros(7)}) == 7
    with pytest.raises(ValueError, match="a batch of 6 cannot be shared by 7 processes"):
        Processes(0, 7).share(batch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"method": "alora-ablation"},
            "alora-ablation moves or weighs ranks, which one process does",
        ),
        ({"method": "sora"}, "sora moves or weighs ranks"),
        ({"method": "lora", "batch_size": 9}, "batch_size is of all 2 processes.*got 9"),
        (
            {"method": "lora", "eval_every": 1, "gradient_draws": 2},
            "gradient_draws is for one process",
        ),
    ],
)
def test_what_processes_cannot_share_is_one_sentence(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        run(RunConfig(**settings), device="cpu", processes=Processes(0, 2))
    assert "\n" not in str(caught.value)


def test_other_commands_under_a_launcher_are_refused(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["demo"]) == 2
    assert "demo is for one process, and a launcher started several" in capsys.readouterr().err


def test_masks_of_dropout_differ_between_processes_and_repeat_in_one():
    losses = []
    for rank in (0, 0, 1):
        model = decoder()
        for module in model.modules():
            if isinstance(module, AdaptedLinear):
                module.dropout = torch.nn.Dropout(0.5)
        _, trace = trained(Processes(rank, 1), model=model, batches=batch_at)
        losses.append(trace["loss"])
    assert losses[0] == losses[1] != losses[2]


def test_as_many_steps_are_made_as_were_asked_for(pair):
    assert [len(found["trace"]["loss"]) for found in pair[1]] == [STEPS, STEPS]
