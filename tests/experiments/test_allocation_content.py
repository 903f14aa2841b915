"""What the allocation sweep's records show, from records made up so that the answer is known."""

import pytest

from allora_lab.experiments.allocation_content import (
    allocation_content,
    final_ranks,
    share_sentence,
)
from allora_lab.experiments.allocation_runs import (
    accuracies_by_budget,
    allocation_config,
    base_settings,
    planned_runs,
    recorded_run,
)
from allora_lab.experiments.records import RunRecord, record_path, write_record
from allora_lab.panels.allocation import (
    AllocationPanel,
    layer_names,
    ranks_after,
    scores_of_round,
)
from allora_lab.plots.rank_map import rank_map_figure


def made_up(config, accuracy):
    """Return a record in which query gets what output had, one rank a round."""
    names = layer_names()
    start = {"step": [0], "row_norm_mean": [0.0], "loss": [0.5] * config.steps}
    trace = {"layers": {name: {} for name in names}, **start}
    if config.method.startswith("alora"):
        ranks = {}
        for name in names:
            change = 1 if name.endswith("query") else -1 if name.endswith("r.5.output.dense") else 0
            ranks[name] = [config.r + change * (i + 1) for i in range(2)]
        scores = {name: [[0.1 * k for k in range(config.r)]] * 2 for name in names}
        trace["allocation"] = {"step": [128, 160], "ranks": ranks, "scores": scores}
        trace["rank_norms"] = {"step": [128, 136], "by_birth": [[0.5], [0.6, 0.1]]}
    return RunRecord(
        run_id=config.run_id,
        config=config.to_json(),
        metrics={"eval_accuracy": accuracy, "eval_loss": 0.5},
        trace=trace,
        trainable_parameters=1,
        train_seconds=30.0,
        peak_memory_bytes=1,
        model_revision="m",
        dataset_revision="d",
        code_commit="c" * 40,
        code_dirty=False,
        packages={},
        device="cpu: one",
        finished_at="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    for config in planned_runs():
        if config.method in ("lora", "alora-ablation") and config.dataset == "rotten_tomatoes":
            ahead = 0.01 if config.method != "lora" else 0.0
            record = made_up(config, 0.7 + ahead + 0.001 * config.seed)
            write_record(record_path("allocation", config), record)


def test_maps_and_sentences_come_from_the_records(records):
    content = allocation_content()
    (group,) = content["groups"]
    titles = [panel["title"] for panel in group["panels"]]
    assert titles == ["LoRA", "ALoRA", "ALoRA, n_A = 24"]
    alora = group["panels"][1]
    assert alora["ranks"][alora["modules"].index("query")] == [6] * 6
    assert alora["ranks"][alora["modules"].index("output")] == [4] * 5 + [2]
    assert "71.2 ± 0.2 %, 5 seeds" in alora["note"]
    assert "ALoRA - LoRA: +1.0 points" in " ".join(content["sentences"])
    assert len(rank_map_figure(content).axes) == 3


def test_shares_of_attention_and_feed_forward_by_hand(records):
    record = recorded_run(allocation_config("alora-ablation", 4))
    ranks = final_ranks(record)
    assert sum(ranks.values()) == 144 + 12 - 2
    said = share_sentence({"ALoRA": [record]}, "rotten_tomatoes")
    assert f"ALoRA {100 * 84 / 154:.0f} and {100 * 46 / 154:.0f} %" in said


def test_budgets_are_grouped_by_ranks_in_all(records):
    found = accuracies_by_budget("lora", None)
    assert list(found) == [36, 72, 144, 288, 576]
    assert len(found[144]) == 5
    assert list(accuracies_by_budget("alora-ablation", 24)) == [144]


def test_the_panel_shows_a_recorded_round(records):
    panel = AllocationPanel().panel
    assert "most in query (36)" in panel.caption.value
    assert "Accuracy at the end 71.0 % of 512 test sentences" in panel.caption.value
    panel.controls["round_number"].value = 1
    assert "most in query (30)" in panel.caption.value
    panel.controls["round_number"].value = 0
    assert "144 ranks" in panel.caption.value


def test_a_round_that_was_not_held_is_the_last_that_was():
    trace = {"allocation": {"step": [1], "ranks": {"a": [3]}, "scores": {"a": [[1.0, 3.0]]}}}
    assert ranks_after(trace, {"a": 2}, 0) == {"a": 2}
    assert ranks_after(trace, {"a": 2}, 4) == {"a": 3}
    assert scores_of_round(trace, 1) == {"a": 2.0}
    assert scores_of_round(trace, 2) == {}


def test_the_sweeps_rivals_start_where_the_methods_say():
    by_method = {}
    for config in planned_runs():
        by_method.setdefault(config.method, set()).add(config.r)
    assert by_method["sora"] == by_method["adalora"] == {8}
    assert all(config.steps == base_settings()["steps"] for config in planned_runs())
    assert {c.rank_budget for c in planned_runs() if c.method == "adalora"} == {144}
