"""ALLoRA beside LoRA at η × lr under SGD, with gradients clipped and not: from the records."""

import math
from statistics import fmean

import pytest

from allora_lab.experiments.clipping import (
    READ_AT,
    RUNS,
    STEPS,
    clipping_configs,
    clipping_table,
    drift_without_clipping,
    norm_ratios,
)
from allora_lab.experiments.records import read_record, record_path

CLIPPED, NOT_CLIPPED = RUNS.values()


def test_the_pairs_differ_in_clipping_and_length_alone():
    for clipped, not_clipped in zip(
        clipping_configs(CLIPPED, 3), clipping_configs(NOT_CLIPPED, 3), strict=True
    ):
        assert (clipped.clip_norm, not_clipped.clip_norm) == (0.5, None)
        assert (clipped.lr, clipped.method) == (not_clipped.lr, not_clipped.method)
        assert clipped.seed == not_clipped.seed == 3
    ours, theirs = clipping_configs(NOT_CLIPPED, 0)
    assert (ours.method, theirs.method) == ("allora", "lora")
    assert theirs.lr == 2 * ours.lr  # η² = 4


@pytest.mark.parametrize("settings", RUNS.values(), ids=RUNS)
def test_a_ratio_is_that_of_the_recorded_norms(settings):
    records = [read_record(record_path("escape", c)) for c in clipping_configs(settings, 2)]
    at = records[0].trace["step"].index(STEPS)
    ours, theirs = (record.trace["row_norm_mean"][at] for record in records)
    assert norm_ratios(settings, STEPS)[2] == ours / theirs


def test_without_clipping_the_taper_is_smaller():
    clipped, not_clipped = (norm_ratios(settings, STEPS) for settings in RUNS.values())
    assert all(a < b < 1 for a, b in zip(clipped, not_clipped, strict=True))
    found = drift_without_clipping()
    assert found.n == 5
    assert math.isclose(found.mean, fmean(not_clipped), rel_tol=1e-3)  # both start at 1.000


def test_the_table_has_a_row_for_each_and_a_column_for_each_step():
    head, _, *rows = clipping_table().splitlines()
    assert [row.split(" | ")[0] for row in rows] == [f"| {name}" for name in RUNS]
    assert head.count("steps") == len(READ_AT)
    assert rows[1].endswith("| 0.966 ± 0.027 |")


def test_what_is_not_recorded_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    assert drift_without_clipping() is None
    with pytest.raises(FileNotFoundError, match=r"sweeps/escape\.toml"):
        clipping_table()
