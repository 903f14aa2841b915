"""How alike batches order ranks: the agreement by hand, a small measurement, its record."""

import json
from dataclasses import asdict, replace

import pytest

from allora_lab.experiments import score_stability
from allora_lab.experiments.score_stability import (
    StabilityRecord,
    agreement,
    batch_agreement,
    measure_stability,
    read_stability,
    record_file,
    stability_config,
    stability_sentences,
)

TINY = {"steps": 3, "train_size": 24, "max_length": 8, "dataset": "rotten_tomatoes_rated"}


def test_agreement_of_orders_by_hand():
    assert agreement([1, 2, 3, 4], [10, 20, 30, 40], n=2) == pytest.approx((1.0, 1.0))
    assert agreement([1, 2, 3, 4], [4, 3, 2, 1], n=2) == pytest.approx((-1.0, 0.0))
    assert agreement([1, 2, 3, 4], [1, 3, 2, 4], n=2) == pytest.approx((0.8, 0.5))


@pytest.fixture(scope="module")
def record():
    return measure_stability(stability_config(0, **TINY), batches=4, size=2)


def test_a_measurement_has_a_score_for_every_rank_and_batch_and_repeats(record):
    assert [len(row) for row in record.ablation] == [144] * 4
    assert len(record.sensitivity) == len(record.magnitude) == 144
    assert len({tuple(row) for row in record.ablation}) == 4
    again = measure_stability(stability_config(0, **TINY), batches=4, size=2)
    same = {"seconds": 0, "finished_at": ""}
    assert replace(again, **same) == replace(record, **same)


def test_a_union_of_batches_is_scored_by_their_mean(record):
    made = replace(record, ablation=[[0.0, 3.0, 2.0], [0.0, 1.0, 2.0], [0.0, 1.0, 2.0], [0, 3, 2]])
    rho, _ = batch_agreement(made, 2)
    assert rho == pytest.approx(1.0)  # both unions are [0, 2, 2]
    assert batch_agreement(made, 1)[0] < 1


def test_sentences_come_from_records_and_an_edited_one_is_refused(record, tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_RESULTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="score_stability"):
        stability_sentences()
    config = stability_config(0)
    whole = replace(record, run_id=config.run_id, config=config.to_json())
    path = record_file(config)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(asdict(whole)))
    said = stability_sentences()
    assert "by chance 4%" in said[0]
    assert len(said) == 3  # four batches make no two unions of four
    path.write_text(json.dumps({**asdict(whole), "run_id": "other"}))
    with pytest.raises(ValueError, match="edited"):
        read_stability(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="no record"):
        read_stability(path)
    assert set(asdict(whole)) == set(StabilityRecord.__dataclass_fields__)


def test_too_few_dev_sentences_are_refused():
    with pytest.raises(ValueError, match="choose a larger set"):
        measure_stability(stability_config(0, **TINY), batches=10**6)


def test_the_runs_stop_before_any_rank_moves():
    for seed in score_stability.SEEDS:
        config = stability_config(seed)
        assert config.steps == config.first_round == config.train_size // config.batch_size
