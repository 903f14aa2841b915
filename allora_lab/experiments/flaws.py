"""The paper's three flaws in a real fine-tune of MiniLM.

One: how far dropout's masks move the gradient of A and B, beside how far the batches do (§3.1).
Two: how fast B leaves zero, layer by layer (§3.2).  Three: how activations grow with the scaling
(§3.3), from the records of `experiments.ripple_model`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from allora_lab.experiments.collected import collect, mean_and_half
from allora_lab.experiments.records import RunRecord
from allora_lab.experiments.ripple_records import recorded_ripples
from allora_lab.experiments.statistics import mean_interval

SWEEP = "flaws"


def masks_over_batches(record: RunRecord) -> list[float]:
    """Return how far masks move B's gradient, over how far batches do, at each evaluation.

    Both are standard deviations: over draws of the masks with the batch held, and over batches.
    """
    rows = _noise_rows(record)
    return [r["over_masks"]["B"]["noise"] / r["over_batches"]["B"]["noise"] for r in rows]


def _noise_rows(record: RunRecord) -> list[dict[str, Any]]:
    """Return one nested dict an evaluation from the trace's nested lists."""
    return _transposed(record.trace["evaluations"]["gradient_noise"])


def _transposed(nested: dict[str, Any]) -> list[dict[str, Any]]:
    columns = {k: _transposed(v) if isinstance(v, dict) else v for k, v in nested.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _by_dropout(records: Sequence[RunRecord]) -> dict[float, list[RunRecord]]:
    dropouts = sorted({record.config["lora_dropout"] for record in records})
    return {p: [r for r in records if r.config["lora_dropout"] == p] for p in dropouts}


def _noise_lines(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    steps = records[0].trace["evaluations"]["step"]
    batches = {"label": "batches", "colour": "paper", "x": steps, "marks": []}
    lines = [{**batches, "mean": [1.0] * len(steps), "half": None}]
    for place, (dropout, runs) in enumerate(_by_dropout(records).items()):
        curves = [masks_over_batches(run) for run in runs]
        mean, half = zip(*(mean_and_half(v) for v in zip(*curves, strict=True)), strict=True)
        line = {"label": f"masks, dropout {dropout:g}", "colour": 2 * place + 1, "marks": []}
        half = [value or 0.0 for value in half]
        lines.append({**line, "x": steps, "mean": list(mean), "half": half})
    return lines


def norm_by_layer(records: Sequence[RunRecord]) -> dict[int, list[float]]:
    """Return ||B|| at each traced step, by depth: means over the layer's matrices and the runs."""
    found: dict[int, list[list[float]]] = {}
    for record in records:
        for name, values in record.trace["layers"].items():
            depth = next(int(word) for word in name.split(".") if word.isdigit())
            found.setdefault(depth, []).append(values["norm_B"])
    return {depth: np.mean(curves, axis=0).tolist() for depth, curves in sorted(found.items())}


def _escape_lines(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    steps = records[0].trace["step"]
    return [
        {
            "label": f"layer {depth}",
            "colour": depth,
            "x": steps,
            "mean": values,
            "half": None,
            "marks": [],
        }
        for depth, values in norm_by_layer(records).items()
    ]


def _growth_lines() -> list[dict[str, Any]]:
    records = recorded_ripples()
    scalings = [row["scaling"] for row in records[0].scaled if row["scaling"] > 0]
    lines = []
    for place, (label, key) in enumerate((("length, h_s to h_0", "growth"), ("change", "change"))):
        curves = [
            [row[key]["mean"][-1] for row in record.scaled if row["scaling"] > 0]
            for record in records
        ]
        mean, half = zip(*(mean_and_half(v) for v in zip(*curves, strict=True)), strict=True)
        line = {"label": label, "colour": 2 * place + 1, "x": scalings, "marks": []}
        lines.append({**line, "mean": list(mean), "half": [value or 0.0 for value in half]})
    return lines


def flaws_content() -> dict[str, Any]:
    """Return the three flaws as three panels, with sentences."""
    collected = collect(SWEEP)
    records = collected.records
    layers = norm_by_layer(records)
    linear = {"x_scale": "linear"}
    return {
        "seeds": len({record.config["seed"] for record in records}),
        "panels": [
            {
                "title": "1 Dropout's noise, the batches' = 1",
                "x_label": "step",
                "y_label": "how far B's gradient moves",
                **linear,
                "lines": _noise_lines(records),
            },
            {
                "title": "2 B leaves zero",
                "x_label": "step",
                "y_label": "‖B‖, mean of query and value",
                **linear,
                "lines": _escape_lines(records),
            },
            {
                "title": "3 Activations under scaling s",
                "x_label": "s",
                "y_label": "last state, relative",
                "x_scale": "log2",
                "lines": _growth_lines(),
            },
        ],
        "sentences": [
            *_sentences(records, layers),
            f"Of the sweep {SWEEP}, {collected.said}.",
        ],
    }


def _sentences(records: Sequence[RunRecord], layers: dict[int, list[float]]) -> list[str]:
    slowest, fastest = (pick(layers, key=lambda depth: layers[depth][-1]) for pick in (min, max))
    growth = _growth_lines()[0]
    size, last = records[0].config["batch_size"], records[0].trace["evaluations"]["step"][-1]
    said = []
    for dropout, runs in _by_dropout(records).items():
        starts, ends = zip(*((c[0], c[-1]) for c in map(masks_over_batches, runs)), strict=True)
        (at_start, _), (mean, half) = mean_interval(starts), mean_interval(ends)
        said.append(
            f"The masks of dropout {dropout:g} move B's gradient {at_start:.2f} times as far as the "
            f"batches of {size} do at the start, and {mean:.2f} times "
            f"[{mean - half:.2f}, {mean + half:.2f}] at step {last}, {len(runs)} seeds."
        )
    ratio = layers[fastest][-1] / layers[slowest][-1]
    said.append(f"B of layer {fastest} ends {ratio:.1f} times as long as that of layer {slowest}.")
    short, long = (f"{growth['mean'][i]:.2f}" for i in (0, -1))
    said.append(
        f"With s from {growth['x'][0]:g} to {growth['x'][-1]:g} the last state is {short} to {long} "
        "times as long."
    )
    return said
