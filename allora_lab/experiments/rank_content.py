"""Where the allocator's ranks go when the answer is known, and on images: maps and sentences."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from allora_lab.allocation.places import place_of
from allora_lab.experiments.rank_runs import (
    ORACLE,
    RankConfig,
    RankRecord,
    planned,
    read_rank_record,
    record_file,
    record_missing,
)
from allora_lab.experiments.statistics import mean_interval, paired
from allora_lab.methods import METHODS

TASK_TITLES = {
    "planted": "Known answer: a change of rank 4 in each of the two framed modules",
    "digits": "Images: a vision transformer that knows the digits 0 to 4 learns 5 to 9",
}


def label_of(config: RankConfig) -> str:
    """Return a setting's name for people."""
    if config.method == ORACLE:
        return "LoRA, placed right"
    label = METHODS[config.method].label
    if config.score_rows != RankConfig.__dataclass_fields__["score_rows"].default:
        label += f", {config.score_rows:,} examples"
    if config.ranks_moved:
        label += f", n_A = {config.ranks_moved}"
    return label


def recorded_groups(task: str) -> dict[str, list[RankRecord]]:
    """Return the records of a task by setting, over seeds, in the order they are planned."""
    found: dict[str, list[RankRecord]] = {}
    for config in planned():
        path = record_file(config)
        if config.task == task and path.exists():
            found.setdefault(label_of(config), []).append(read_rank_record(path))
    return dict(sorted(found.items(), key=lambda item: _place(item[0])))


def _place(label: str) -> tuple[bool, bool]:
    """Return a label's place: ALoRA with its own score beside LoRA, the known answer last."""
    return label == "LoRA, placed right", not label.startswith(
        ("LoRA", "ALoRA,")
    ) and label != "ALoRA"


def in_planted(record: RankRecord) -> int:
    """Return how many of a run's final ranks stand in the modules where they are of use."""
    return sum(record.final_ranks.get(name, 0) for name in record.planted)


def rank_matrix(
    ranks: Sequence[dict[str, int]],
) -> tuple[list[str], list[int], list[list[float]]]:
    """Return modules, blocks, and mean ranks [module][block] over runs; a module left out has 0."""
    places = {name: place_of(name) for run in ranks for name in run}
    blocks = sorted({block for block, _ in places.values()})
    modules = list(dict.fromkeys(module for _, module in places.values()))
    by_place = {(module, block): name for name, (block, module) in places.items()}
    matrix = [
        [fmean(run.get(by_place.get((module, block), ""), 0) for run in ranks) for block in blocks]
        for module in modules
    ]
    return modules, blocks, matrix


def _percent(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{100 * values[0]:.1f} %"
    mean, half = mean_interval([100 * value for value in values])
    return f"{mean:.1f} ± {half:.1f} %"


def _panel(label: str, records: Sequence[RankRecord], names: Sequence[str]) -> dict[str, Any]:
    zeros = dict.fromkeys(names, 0)
    modules, blocks, ranks = rank_matrix([zeros | r.final_ranks for r in records])
    note = _percent([r.accuracy for r in records])
    if records[0].planted:
        note += f"\n{fmean(map(in_planted, records)):.1f} ranks of use"
    note += f"\n{fmean(sum(r.final_ranks.values()) for r in records):.3g} ranks in all"
    marked = [(module, block) for block, module in map(place_of, records[0].planted)]
    return {
        "title": label,
        "note": note,
        "modules": modules,
        "blocks": blocks,
        "ranks": ranks,
        "marked": marked,
    }


def _compared(found: dict[str, list[RankRecord]], label: str, base: str) -> str:
    ours = {r.config["seed"]: 100 * r.accuracy for r in found[label]}
    theirs = {r.config["seed"]: 100 * r.accuracy for r in found[base]}
    result = paired(ours, theirs)
    return f"{label} {result.mean_difference:+.1f} [{result.low:+.1f}, {result.high:+.1f}]"


def _of_use_sentence(found: dict[str, list[RankRecord]]) -> str:
    """Say how many ranks start and end where they are of use: at r each, in the planted modules."""
    parts = []
    for label, records in found.items():
        first = records[0]
        start = sum(first.start_ranks[name] for name in first.planted)
        parts.append(f"{label}: {start} to {fmean(map(in_planted, records)):.1f}")
    return (
        "Ranks in the two modules where they are of use, at the start and at the end, of 8 that "
        f"would be best: {'; '.join(parts)}."
    )


def task_sentences(task: str, found: dict[str, list[RankRecord]]) -> list[str]:
    """Say where ranks went, and each setting's accuracy less fixed LoRA's, paired by seed."""
    base = METHODS["lora"].label
    if base not in found or any(len(records) < 2 for records in found.values()):
        return []
    said = []
    if task == "planted":
        said.append(_of_use_sentence({k: v for k, v in found.items() if k != base}))
    parts = [_compared(found, label, base) for label in found if label != base]
    n = len(found[base])
    said.append(
        f"{TASK_TITLES[task].split(':')[0]}: accuracy less LoRA's with equal ranks, in points, "
        f"95 % interval over {n} seeds: {'; '.join(parts)}."
    )
    return said


def rank_tasks_content(*, fresh: bool = False) -> dict[str, Any]:
    """Return the maps and sentences of both tasks; what is not recorded is run first when `fresh`.

    Raises FileNotFoundError when nothing is recorded.
    """
    if fresh:
        for _ in record_missing():
            pass
    groups, sentences = [], []
    for task, title in TASK_TITLES.items():
        found = recorded_groups(task)
        if not found:
            continue
        names = list(next(iter(found.values()))[0].start_ranks)
        panels = [_panel(label, records, names) for label, records in found.items()]
        largest = max(value for p in panels for row in p["ranks"] for value in row)
        groups.append({"title": title, "panels": panels, "largest": largest})
        sentences += task_sentences(task, found)
    if not groups:
        raise FileNotFoundError(
            "no run of the rank tasks is recorded: run `python -m allora_lab.experiments.rank_runs`"
        )
    return {"groups": groups, "sentences": sentences}
