"""ALLoRA against LoRA at η × lr: the paper's Figure 3 and Table 3, and ours beside it."""

from statistics import fmean
from typing import Any

from allora_lab.experiments.collected import (
    Recorded,
    collect,
    counted,
    difference_row,
    interval_text,
    setting_label,
    verdict,
)
from allora_lab.experiments.comparison import ComparisonResult
from allora_lab.experiments.many_comparisons import chance_sentence
from allora_lab.experiments.paper_numbers import paper_differences
from allora_lab.training.optimizers import OPTIMIZERS

SWEEP = "perception"
AT_SCALED_LR = "ALLoRA - LoRA at eta x lr"
AT_LR = "ALLoRA - LoRA at lr"
ON_UPDATE = "ALLoRA on the update - LoRA at eta x lr"
# the paper's LoRA has dropout 0.05; its ALLoRA too in the submission, and none on arXiv
WITH_DROPOUT = "ALLoRA - LoRA + dropout at eta x lr"
BOTH_DROPOUT = "ALLoRA + dropout - LoRA + dropout at eta x lr"
PAPER_DATASETS = {
    "rotten_tomatoes": "Rotten Tomatoes",
    "emotion": "Emotion",
    "yelp": "Yelp",
    "bias_in_bios": "Bias in Bios",
}


def by_optimizer(result: ComparisonResult) -> dict[str, ComparisonResult]:
    """Return what a comparison shows under each optimizer, in the order of OPTIMIZERS."""
    parts = {
        key: result.only(lambda g, key=key: g.ours.optimizer == key and g.result is not None)
        for key in OPTIMIZERS
    }
    return {key: part for key, part in parts.items() if part.groups}


def our_rows(result: ComparisonResult) -> list[dict[str, Any]]:
    """Return one row a setting, and under each optimizer the mean over its settings."""
    rows = []
    for optimizer, part in by_optimizer(result).items():
        label = OPTIMIZERS[optimizer].label
        ordered = sorted(part.groups, key=lambda g: (g.ours.dataset, g.ours.eta_squared or 0.0))
        for group in ordered:
            name = setting_label(group.ours).replace(f", {label}", "")
            rows.append(difference_row(name, group.result, group=label))
        if len(ordered) > 1 and part.pooled:
            name = f"mean of {len(ordered)}"
            rows.append(difference_row(name, part.pooled, group=label, emphasis=True))
    return rows


def paper_rows(table: str, ours: str, theirs: str) -> list[dict[str, Any]]:
    """Return the paper's differences, each the mean over its η², and their mean; no intervals."""
    found = paper_differences(table, ours, theirs)
    cells: dict[tuple[str, str], list[float]] = {}
    for (_, model, dataset), difference in found.differences.items():
        cells.setdefault((str(model), str(dataset)), []).append(difference)
    plain = {"low": None, "high": None, "emphasis": False}
    rows = [
        {"label": PAPER_DATASETS[dataset], "group": model, "mean": fmean(values), **plain}
        for (model, dataset), values in sorted(cells.items())
    ]
    count = len(found.differences)
    mean = {"label": f"mean of {count}", "group": "all", "mean": found.mean}
    return [*rows, {**mean, **plain, "emphasis": True}]


def paper_sentence(table: str, ours: str, theirs: str) -> str:
    """Say the paper's count and mean, and what they rest on."""
    found = paper_differences(table, ours, theirs)
    wins, ties, losses = found.counts
    return (
        f"The paper: {ours} - {theirs} is {found.mean:+.2f} points over {sum(found.counts)} cells, "
        f"ahead in {wins}, equal in {ties}, behind in {losses}, without intervals."
    )


def our_sentences(name: str, result: ComparisonResult, than: str) -> list[str]:
    """Say, for each optimizer, what the mean over its settings is and what it tells."""
    return [
        f"Under {OPTIMIZERS[optimizer].label}, {name} is {verdict(part.pooled)} {than}: "
        f"{interval_text(part.pooled)} over {counted(len(part.groups), 'setting')} and "
        f"{part.pooled.n} seeds."
        for optimizer, part in by_optimizer(result).items()
        if part.pooled
    ]


def perception_content() -> dict[str, Any]:
    """Return the differences of ALLoRA and LoRA, ours and the paper's, with sentences."""
    runs: Recorded = collect(SWEEP)
    scaled, plain, update, dropped, both = (
        runs.comparison(name)
        for name in (AT_SCALED_LR, AT_LR, ON_UPDATE, WITH_DROPOUT, BOTH_DROPOUT)
    )
    cells = paper_differences("perception", "ALLoRA", "LoRA").differences
    etas = len({eta_squared for eta_squared, *_ in cells})
    return {
        "panels": [
            {
                "title": "Here: MiniLM, LoRA with the paper's dropout",
                "x_label": "ALLoRA - LoRA + dropout at η × lr, points",
                "rows": our_rows(dropped),
            },
            {
                "title": "Here: no dropout on either side",
                "x_label": "ALLoRA - LoRA at η × lr, points",
                "rows": our_rows(scaled),
            },
            {
                "title": "Here: our form, on the update",
                "x_label": "ALLoRA on the update - LoRA at η × lr, points",
                "rows": our_rows(update),
            },
            {
                "title": f"The paper, means over {etas} values of η²",
                "x_label": "ALLoRA - LoRA + dropout at η × lr, points",
                "rows": paper_rows("perception", "ALLoRA", "LoRA"),
            },
        ],
        "sentences": [
            paper_sentence("perception", "ALLoRA", "LoRA"),
            *our_sentences("ALLoRA", dropped, "LoRA + dropout at η × lr"),
            *our_sentences("ALLoRA + dropout", both, "LoRA + dropout at η × lr"),
            *our_sentences("ALLoRA", scaled, "LoRA at η × lr"),
            *our_sentences("ALLoRA", plain, "LoRA at lr"),
            *our_sentences("ALLoRA on the update (ours)", update, "LoRA at η × lr"),
            chance_sentence(runs),
            f"Of the sweep {SWEEP}, {runs.said}.",
        ],
    }
