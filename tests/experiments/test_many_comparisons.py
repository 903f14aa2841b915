"""What is said of many comparisons agrees with the tables that `allora-lab tables` prints."""

import re

import pytest

from allora_lab.experiments import many_comparisons
from allora_lab.experiments.collected import collect
from allora_lab.experiments.comparison import comparison_rows, is_pooled


@pytest.fixture(scope="module")
def rows():
    runs = collect("perception")
    found = comparison_rows(runs.sweep.comparisons, runs.sweep.configs, runs.records)
    return [row for row in found if not is_pooled(row) and "q" in row]


def leaves_out_zero(row):
    difference = row["difference_points"]
    return difference.half is not None and abs(difference.mean) > difference.half


def test_the_settings_that_leave_out_zero_are_those_of_the_tables(rows):
    said = many_comparisons.chance_sentence(collect("perception"))
    outside = [row for row in rows if leaves_out_zero(row)]
    assert said.startswith(f"Of {len(rows)} comparisons of one setting, {len(outside)} leave out 0")
    assert f"where {0.05 * len(rows):.1f} are to be expected" in said
    assert re.findall(r"adjusted (\d\.\d+)", said) == [f"{row['q']:.3f}" for row in outside]
    assert len(outside) > 1


def test_where_no_setting_leaves_out_zero_none_is_listed(rows, monkeypatch):
    monkeypatch.setattr(many_comparisons, "LEVEL", 0.0)
    said = many_comparisons.chance_sentence(collect("perception"))
    assert said.endswith(", 0 leave out 0, where 0.0 are to be expected if nothing is going on.")
