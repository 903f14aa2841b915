"""Tables of a sweep: what a row says, what it says of missing runs, and that CSV holds the same."""

import csv
import io
from dataclasses import replace

import pytest

from allora_lab.config import RunConfig
from allora_lab.experiments.comparison_config import comparisons_from
from allora_lab.experiments.records import read_record, write_record
from allora_lab.experiments.statistics import mean_interval
from allora_lab.experiments.sweep_tables import (
    cell_rows,
    footnote,
    sweep_tables,
    to_csv,
    to_markdown,
)
from allora_lab.files import REPOSITORY

TEMPLATE = read_record(min((REPOSITORY / "results" / "escape").glob("*.json")))
CONFIGS = [
    RunConfig(method=method, r=r, seed=seed)
    for method in ("lora", "allora")
    for r in (4, 8)
    for seed in range(3)
]
BLOCK = {"name": "ALLoRA - LoRA", "ours": {"method": "allora"}, "theirs": {"method": "lora"}}
COMPARISONS = comparisons_from([BLOCK])


def recorded(config, accuracy, **changes):
    metrics = {"eval_accuracy": accuracy, "eval_loss": 0.25 + 0.1 * config.seed}
    values = {
        "run_id": config.run_id,
        "config": config.to_json(),
        "metrics": metrics,
        "train_seconds": 10.0 + config.seed,
        "peak_memory_bytes": 900 * 2**20,
        "device": "cpu: one, 1 thread",
    }
    return replace(TEMPLATE, **{**values, **changes})


def records():
    """Accuracy 70, 72, 74 for LoRA; for ALLoRA 1 + seed points more at r 4 and 1 more at r 8."""
    gain = {("allora", 4): lambda seed: 1 + seed, ("allora", 8): lambda seed: 1}
    return [
        recorded(c, (70 + 2 * c.seed + gain.get((c.method, c.r), lambda _: 0)(c.seed)) / 100)
        for c in CONFIGS
    ]


@pytest.fixture
def tables(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    for record in records()[:-1]:
        write_record(tmp_path / "trial" / f"{record.run_id}.json", record)
    return sweep_tables("trial", CONFIGS, COMPARISONS)


def test_a_row_is_a_setting_with_only_what_varies_and_its_means():
    first = cell_rows(CONFIGS, records())[0]
    assert list(first)[:5] == ["method", "r", "eta_squared", "n", "planned"]
    assert (first["method"], first["r"], first["eta_squared"]) == ("lora", "4", None)
    accuracy = first["accuracy_percent"]
    assert (accuracy.mean, accuracy.half) == pytest.approx(mean_interval([70.0, 72.0, 74.0]))
    assert first["eval_loss"] == pytest.approx(0.35)
    assert (first["train_seconds"], first["peak_memory_mib"]) == (11, 900)
    assert first["device"] == "cpu: one, 1 thread"


def test_a_sweep_of_one_setting_still_names_its_method():
    (row,) = cell_rows(CONFIGS[:3], [])
    assert (row["method"], row["n"], row["planned"], row["device"]) == ("lora", 0, 3, None)


def test_one_seed_shows_its_mean_without_an_interval_and_none_a_dash():
    text = to_markdown(cell_rows(CONFIGS, records()[:1]))
    lines = text.splitlines()
    assert lines[0].startswith("| method | r | eta_squared | n | of | accuracy, % |")
    assert lines[2].startswith("| lora | 4 | – | 1 | 3 | 70.00 | 0.250 | 10.0 | 900 |")
    assert lines[3].startswith("| lora | 8 | – | 0 | 3 | – | – |")


def test_a_setting_recorded_on_two_kinds_of_device_is_refused():
    mixed = [replace(records()[0], device="NVIDIA H100"), *records()[1:]]
    with pytest.raises(ValueError, match=r"method lora, r 4.*NVIDIA H100 and cpu"):
        cell_rows(CONFIGS, mixed)


def test_tables_are_read_from_the_records_and_count_what_is_missing(tables):
    assert [(row["n"], row["planned"]) for row in tables.cells] == [(3, 3)] * 3 + [(2, 3)]
    assert [(row["n"], row["planned"]) for row in tables.comparisons] == [(3, 3), (2, 3), (2, 3)]


def test_a_run_that_another_sweep_recorded_counts(tables, tmp_path):
    last = records()[-1]
    write_record(tmp_path / "other" / f"{last.run_id}.json", last)
    again = sweep_tables("trial", CONFIGS, COMPARISONS)
    assert [row["n"] for row in again.comparisons] == [3, 3, 3]
    assert again.cells[:3] == tables.cells[:3]


def test_markdown_has_both_tables_and_says_what_the_numbers_mean(tables):
    text = tables.to_markdown()
    assert text.startswith("# trial\n\n| method | r |")
    # differences 1, 2, 3: mean 2 ± 4.302653 / √3
    assert (
        "| ALLoRA - LoRA | 4 | 1 | 3 | 3 | +2.0 [-0.5, +4.5] | 3 | 0 | 0 | 2.00 | 0.074 |" in text
    )
    assert "95 % t-intervals over seeds" in text
    assert "Benjamini-Hochberg over 1 comparisons of one setting, and over 1 pooled" in text


def test_equal_differences_show_no_interval_and_no_test(tables):
    row = tables.comparisons[1]
    assert (row["difference_points"].half, row["p"], row["d_z"]) == (None, None, None)
    assert "q" not in row
    assert "| 8 | 1 | 2 | 3 | +1.00 | 2 | 0 | 0 | – | – | – |" in tables.to_markdown()


def test_a_pooled_row_counts_settings(tables):
    row = tables.comparisons[2]
    assert (row["settings"], row["wins"], row["ties"], row["losses"]) == (2, 2, 0, 0)
    assert row["difference_points"].mean == pytest.approx(1.25)  # seeds 0 and 1: (1 + 1.5) / 2


def test_csv_holds_the_numbers_of_the_rows(tables):
    read = list(csv.DictReader(io.StringIO(to_csv(tables.comparisons))))
    assert [row["comparison"] for row in read] == ["ALLoRA - LoRA"] * 3
    half = 4.302653 / 3**0.5
    values = [float(read[0][f"difference_points{end}"]) for end in ("", "_low", "_high")]
    assert values == pytest.approx([2, 2 - half, 2 + half], rel=1e-5)
    assert (read[1]["difference_points_low"], read[1]["p"], read[2]["r"]) == ("", "", "")
    cells = list(csv.DictReader(io.StringIO(to_csv(tables.cells))))
    assert len(cells) == 4
    assert float(cells[0]["accuracy_percent"]) == 72
    assert cells[0]["device"] == "cpu: one, 1 thread"  # a comma inside one field


def test_without_comparisons_the_footnote_speaks_of_none(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    text = sweep_tables("trial", CONFIGS, ()).to_markdown()
    assert "Comparisons" not in text
    assert "Benjamini" not in footnote([])


def test_only_what_would_be_rounded_to_nothing_is_shown_as_less():
    rows = [{"p": 0.0004, "q": 0.0004}, {"p": 0.0006, "q": 0.004}]
    shown = [line.split("|")[1:-1] for line in to_markdown(rows).splitlines()[2:]]
    assert shown == [[" <0.001 ", " <0.001 "], [" 0.001 ", " 0.004 "]]


def test_a_bar_in_a_name_does_not_break_the_table():
    assert to_markdown([{"device": "a|b"}]).splitlines()[2] == "| a\\|b |"
    assert (to_markdown([]), to_csv([])) == ("", "\n")
