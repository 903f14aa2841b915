"""What ALLoRA's parts are worth: the paper's Figure 4 and Table 4, and parts taken away singly."""

from typing import Any

from allora_lab.experiments.accuracy_curves import comparison_sentences
from allora_lab.experiments.collected import collect, difference_row, setting_label
from allora_lab.experiments.paper_numbers import paper_differences
from allora_lab.experiments.perception import PAPER_DATASETS, paper_sentence

# Comparisons of sweeps/ablation.toml, and the paper's name of what ALLoRA is compared with.
RIVALS = {
    "ALLoRA - ALLoRA-OD": "ALLoRA-OD",
    "ALLoRA - ASF-LoRA": "ASF-LoRA",
    "ALLoRA - LoRA x eta": "LoRAxeta",
}
PAPER_METHOD = "ALLoRA+D"  # Table 4 has no dropout-free column


def with_dropout(name: str) -> str:
    """Return the name of the comparison in which ALLoRA has dropout, as in the paper's Table 4."""
    return name.replace("ALLoRA -", "ALLoRA + dropout -", 1)


def _our_rows() -> list[dict[str, Any]]:
    collected, rows = collect("ablation"), []
    for name in (named for rival in RIVALS for named in (with_dropout(rival), rival)):
        result = collected.comparison(name)
        rows += [
            difference_row(setting_label(g.ours), g.result, group=name) for g in result.finished
        ]
        if result.pooled:
            rows.append(difference_row("mean", result.pooled, group=name, emphasis=True))
    return rows


def _paper_rows() -> list[dict[str, Any]]:
    rows = []
    for rival in RIVALS.values():
        found = paper_differences("ablation", PAPER_METHOD, rival).differences
        group = f"{PAPER_METHOD} - {rival}".replace("LoRAxeta", "LoRA x eta")
        for dataset in dict.fromkeys(dataset for _, _, dataset in found):
            values = [v for (_, _, d), v in found.items() if d == dataset]
            rows.append(_plain(f"{PAPER_DATASETS[dataset]}, mean of {len(values)}", group, values))
        values = list(found.values())
        rows.append({**_plain(f"mean of {len(values)}", group, values), "emphasis": True})
    return rows


def _plain(label: str, group: str, values: list[float]) -> dict[str, Any]:
    mean = sum(values) / len(values)
    row = {"label": label, "group": group, "mean": mean, "low": None, "high": None}
    return {**row, "emphasis": False}


def ablation_content() -> dict[str, Any]:
    """Return ALLoRA less each of its variants, ours and the paper's, with sentences."""
    axis = "difference, points"
    return {
        "panels": [
            {"title": "Here: MiniLM", "x_label": axis, "rows": _our_rows()},
            {"title": "The paper, with dropout", "x_label": axis, "rows": _paper_rows()},
        ],
        "sentences": [
            *(paper_sentence("ablation", PAPER_METHOD, rival) for rival in RIVALS.values()),
            *comparison_sentences("ablation"),
        ],
    }


def components_content() -> dict[str, Any]:
    """Return what each step from a common LoRA (s = 2, dropout 0.05) to ALLoRA changes."""
    collected = collect("components")
    rows = []
    for comparison in collected.sweep.comparisons:
        for group in collected.comparison(comparison.name).finished:
            rows.append(difference_row(comparison.name, group.result))
    return {
        "panels": [
            {
                "title": "Rotten Tomatoes, AdamW, five seeds",
                "x_label": "difference to LoRA with s = 2 and dropout 0.05, points",
                "rows": rows,
            }
        ],
        "sentences": comparison_sentences("components"),
    }
