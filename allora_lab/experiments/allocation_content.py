"""What the allocation sweep shows: where ranks end by method, accuracy, parameters, time, memory."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from allora_lab.allocation.places import place_of
from allora_lab.config import RunConfig, config_from
from allora_lab.experiments.accuracy_curves import comparison_sentences
from allora_lab.experiments.allocation_runs import SWEEP
from allora_lab.experiments.collected import DATASET_LABELS, accuracies, collect, mean_and_half
from allora_lab.experiments.many_comparisons import chance_sentence
from allora_lab.experiments.rank_content import rank_matrix
from allora_lab.experiments.records import RunRecord
from allora_lab.methods import METHODS

ATTENTION = ("attention.self.query", "attention.self.key", "attention.self.value")
FEED_FORWARD = ("intermediate.dense", "output.dense")


def final_ranks(record: RunRecord) -> dict[str, int]:
    """Return each layer's ranks at the end of a run."""
    moved = record.trace.get("allocation")
    if moved:
        return {name: values[-1] for name, values in moved["ranks"].items()}
    return dict.fromkeys(record.trace["layers"], record.config["r"])


def label_of(config: RunConfig) -> str:
    """Return a setting's name for people, without the data set."""
    moved = f", n_A = {config.ranks_moved}" if config.ranks_moved else ""
    return f"{METHODS[config.method].label}{moved}"


def by_label(records: Sequence[RunRecord], dataset: str) -> dict[str, list[RunRecord]]:
    """Return the runs of a data set at about 144 ranks by label, in the sweep's order."""
    found: dict[str, list[RunRecord]] = {}
    for record in records:
        config = config_from(record.config)
        is_moving = METHODS[config.method].build_hook is not None
        starts_at = {"sora": 8, "adalora": 8}.get(config.method, 4)
        if config.dataset == dataset and config.r == starts_at and (is_moving or config.r == 4):
            found.setdefault(label_of(config), []).append(record)
    return found


def _panel(label: str, records: Sequence[RunRecord]) -> dict[str, Any]:
    ranks = [final_ranks(record) for record in records]
    modules, blocks, matrix = rank_matrix(ranks)
    mean, half = mean_and_half(accuracies(records))
    spread = f" ± {half:.1f}" if half is not None else ""
    seconds = fmean(r.train_seconds for r in records)
    note = f"{mean:.1f}{spread} %, {len(records)} seed{'s' * (len(records) > 1)}"
    note += f"\n{fmean(sum(r.values()) for r in ranks):.3g} ranks, {seconds:.0f} s"
    return {
        "title": label,
        "note": note,
        "modules": [short_name(module) for module in modules],
        "blocks": blocks,
        "ranks": matrix,
        "marked": [],
    }


def short_name(module: str) -> str:
    """Return a module's name for a map: its last words that tell it apart."""
    name = module.removeprefix("attention.self.").removesuffix(".dense")
    return name.replace("attention.output", "attention out")


def share_of(record: RunRecord, group: Sequence[str]) -> float:
    """Return the percentage of a run's ranks that ends in a group of modules."""
    ranks = final_ranks(record)
    inside = sum(r for name, r in ranks.items() if place_of(name)[1] in group)
    return 100 * inside / max(1, sum(ranks.values()))


def share_sentence(found: dict[str, list[RunRecord]], dataset: str) -> str:
    """Say what share of all ranks ends in query, key and value, and in the feed-forward modules."""
    parts = []
    for label, records in found.items():
        shares = [
            fmean(share_of(record, group) for record in records)
            for group in (ATTENTION, FEED_FORWARD)
        ]
        parts.append(f"{label} {shares[0]:.0f} and {shares[1]:.0f} %")
    return (
        f"{DATASET_LABELS.get(dataset, dataset)}: share of the ranks that end in query, key and value "
        f"(50 % at the start) and in the feed-forward modules (33 %): {'; '.join(parts)}."
    )


def setting_of(config: RunConfig) -> str:
    """Return data set, ranks of a module and ranks moved of a setting, for people."""
    dataset = DATASET_LABELS.get(config.dataset, config.dataset)
    moved = f", n_A = {config.ranks_moved}" if config.ranks_moved else ""
    return f"{dataset}, r = {config.r}{moved}"


def allocation_content() -> dict[str, Any]:
    """Return the maps of every method on each data set and the sentences of the comparisons.

    Raises FileNotFoundError when no run is recorded.
    """
    runs = collect(SWEEP)
    records = runs.records
    groups, sentences = [], []
    for dataset in dict.fromkeys(record.config["dataset"] for record in records):
        found = by_label(records, dataset)
        if not found:
            continue
        panels = [_panel(label, runs) for label, runs in found.items()]
        largest = max(value for p in panels for row in p["ranks"] for value in row)
        title = f"{DATASET_LABELS.get(dataset, dataset)}, MiniLM, 36 modules, 144 ranks"
        groups.append({"title": title, "panels": panels, "largest": largest})
        sentences.append(share_sentence(found, dataset))
    *compared, how_many = comparison_sentences(SWEEP)
    sentences += [*compared, chance_sentence(runs, setting_of), how_many]
    return {"groups": groups, "sentences": sentences}
