"""The tasks with a known answer and of images: what they are, that runs repeat, what is kept."""

import json
import re
from dataclasses import replace

import pytest
import torch

from allora_lab.adapters.inject import adapted_layers
from allora_lab.experiments import rank_content, rank_runs
from allora_lab.experiments.rank_runs import (
    METHOD_KEYS,
    ORACLE,
    RankConfig,
    planned,
    read_rank_record,
    record_file,
    record_missing,
    run_rank_task,
)
from allora_lab.experiments.rank_tasks import PLANTED, SHIFT_RANK, digits, planted_ranks
from allora_lab.plots.rank_map import rank_map_figure

SHORT = {"steps": 12, "first_round": 4, "round_every": 3, "rounds": 2, "batch_size": 8}


def config(**changes):
    return RankConfig(**{"task": "planted", "method": "alora-ablation", **SHORT, **changes})


def timeless(record):
    return replace(record, seconds=0, finished_at="")


def test_the_planted_task_is_solved_by_rank_four_in_two_modules_and_by_nothing_else():
    task = planted_ranks(3)
    x, labels = task.data["test"]
    wrong = (task.model(x).logits.argmax(1) != labels).double().mean()
    assert wrong > 0.2
    changed = [name for name in ("blocks.1.left", "blocks.2.right") if name in task.planted]
    assert changed == list(PLANTED)
    for name in PLANTED:  # noise in what a planted module reads moves the labels' logits
        assert dict(task.model.named_modules())[name].weight.shape[0] >= SHIFT_RANK


def test_a_module_reads_inputs_that_no_other_reads():
    task = planted_ranks(0)
    x = task.data["test"][0][:4].clone().requires_grad_()
    seen = {}
    for name, module in task.model.named_modules():
        if name.endswith(("left", "right")):
            module.register_forward_hook(lambda _m, _a, out, name=name: seen.update({name: out}))
    task.model(x)
    for out in seen.values():
        gradient = torch.autograd.grad(out.sum(), x, retain_graph=True)[0]
        assert (gradient.abs().sum(dim=(0, 2)) > 0).sum() == 1


def test_the_oracle_has_all_ranks_in_the_planted_modules():
    record = run_rank_task(config(method=ORACLE, r=1))
    assert record.final_ranks == dict.fromkeys(PLANTED, 4)
    assert rank_content.in_planted(record) == 8


@pytest.mark.parametrize("method", METHOD_KEYS)
def test_a_run_repeats_itself_and_its_ranks_are_those_of_its_trace(method):
    record = run_rank_task(config(method=method))
    assert timeless(run_rank_task(config(method=method))) == timeless(record)
    if record.allocation and method != "adalora":
        last = {name: values[-1] for name, values in record.allocation["ranks"].items()}
        assert last == record.final_ranks
    if method.startswith("alora"):
        assert record.allocation["step"] == [4, 7]
        assert sum(record.final_ranks.values()) == sum(record.start_ranks.values())


def test_the_transformer_adapts_to_digits_it_has_not_seen(monkeypatch):
    from allora_lab.experiments import rank_tasks

    monkeypatch.setattr(rank_tasks, "PRETRAIN_STEPS", 2)
    rank_tasks._pretrained.cache_clear()
    task = digits(0)
    assert set(task.data["train"][1].tolist()) == {0, 1, 2, 3, 4}
    sizes = [len(task.data[split][1]) for split in ("train", "score", "test")]
    assert sum(sizes) == 2500
    record = run_rank_task(config(task="digits", r=2))
    assert len(record.final_ranks) == 18
    rank_tasks._pretrained.cache_clear()


def test_what_is_missing_is_recorded_and_an_edited_record_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    small = [config(seed=s, method=m) for s in (0, 1) for m in ("lora", "alora-random")]
    monkeypatch.setattr(rank_runs, "planned", lambda: small)
    monkeypatch.setattr(rank_content, "planned", lambda: small)
    assert [place for _, place, total in record_missing() if total == 4] == [0, 1, 2, 3]
    assert not list(record_missing())
    content = rank_content.rank_tasks_content()
    (group,) = content["groups"]
    assert [panel["title"] for panel in group["panels"]] == ["LoRA", "ALoRA at random"]
    assert sum(map(sum, group["panels"][0]["ranks"])) == 8
    assert "2.0 ranks of use" in group["panels"][0]["note"]
    assert len(content["sentences"]) == 2
    assert len(rank_map_figure(content).axes) == 2
    path = record_file(small[0])
    values = json.loads(path.read_text())
    values["config"]["lr"] = 1.0
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="was edited"):
        read_rank_record(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        read_rank_record(path)


def test_nothing_recorded_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="rank_runs"):
        rank_content.rank_tasks_content()


def test_every_planned_run_has_a_name_of_its_own():
    assert len({c.run_id for c in planned()}) == len(planned())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"task": "plnted"}, "did you mean 'planted'"),
        ({"method": "alora-ablatoin"}, "did you mean 'alora-ablation'"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_bad_settings_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        config(**change)


def test_layers_are_those_of_the_task():
    task = planted_ranks(0)
    from allora_lab.build import inject_adapters

    inject_adapters(task.model, "lora", r=1, target_modules=task.target_modules)
    assert len(adapted_layers(task.model)) == 8


def test_the_recorded_starts_are_said_with_the_ends():
    """AdaLoRA and SoRA start with twice the ranks: four where they are of use, not two."""
    (said, *_) = rank_content.task_sentences("planted", rank_content.recorded_groups("planted"))
    found = dict(re.findall(r"(?:: |; )([^:;]+?): (\d+) to [\d.]+", said))
    assert found.pop("AdaLoRA") == found.pop("SoRA") == "4"
    assert found.pop("LoRA, placed right") == "8"
    assert set(found.values()) == {"2"}
    assert len(found) == 7
