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


def noise_to_signal(record: RunRecord, over: str, factor: str) -> list[float]:
    """Return noise / signal of the gradient of A or B, at each evaluation where it has a signal."""
    spreads = [found[over][factor] for found in _noise_rows(record)]
    return [s["noise"] / s["signal"] for s in spreads if s["signal"]]


def masks_over_batches(record: RunRecord) -> float:
    """Return how far masks move B's gradient, over how far batches do, at the last evaluation."""
    last = _noise_rows(record)[-1]
    return last["over_masks"]["B"]["noise"] / last["over_batches"]["B"]["noise"]


def _noise_rows(record: RunRecord) -> list[dict[str, Any]]:
    """Return one nested dict an evaluation from the trace's nested lists."""
    return _transposed(record.trace["evaluations"]["gradient_noise"])


def _transposed(nested: dict[str, Any]) -> list[dict[str, Any]]:
    columns = {k: _transposed(v) if isinstance(v, dict) else v for k, v in nested.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _noise_lines(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    lines = []
    dropouts = sorted({record.config["lora_dropout"] for record in records})
    series = [(f"masks, dropout {p:g}", "over_masks", p) for p in dropouts]
    series.append((f"batches (at dropout {dropouts[0]:g})", "over_batches", dropouts[0]))
    for place, (label, over, dropout) in enumerate(series):
        runs = [r for r in records if r.config["lora_dropout"] == dropout]
        curves = [noise_to_signal(run, over, "B") for run in runs]
        mean, half = zip(*(mean_and_half(v) for v in zip(*curves, strict=True)), strict=True)
        lines.append(
            {
                "label": label,
                "colour": "paper" if over == "over_batches" else 2 * place + 1,
                "x": runs[0].trace["evaluations"]["step"],
                "mean": list(mean),
                "half": [value or 0.0 for value in half],
                "marks": [],
            }
        )
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
    noise = _noise_lines(records)
    layers = norm_by_layer(records)
    linear = {"x_scale": "linear"}
    return {
        "seeds": len({record.config["seed"] for record in records}),
        "panels": [
            {
                "title": "1 Dropout's noise",
                "x_label": "step",
                "y_label": "noise / signal of B's gradient",
                **linear,
                "lines": noise,
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
            *_sentences(records, noise, layers),
            f"Of the sweep {SWEEP}, {collected.said}.",
        ],
    }


def _sentences(
    records: Sequence[RunRecord], noise: Sequence[dict[str, Any]], layers: dict[int, list[float]]
) -> list[str]:
    slowest, fastest = (pick(layers, key=lambda depth: layers[depth][-1]) for pick in (min, max))
    growth = _growth_lines()[0]
    said = [
        f"Gradient of B, {line['label']}: noise is {line['mean'][0]:.2f} of the signal at the start "
        f"and {line['mean'][-1]:.2f} at step {line['x'][-1]}."
        for line in noise
    ]
    for dropout in sorted({record.config["lora_dropout"] for record in records}):
        runs = [r for r in records if r.config["lora_dropout"] == dropout]
        mean, half = mean_interval([masks_over_batches(run) for run in runs])
        said.append(
            f"At the end the masks of dropout {dropout:g} move B's gradient {mean:.2f} times "
            f"[{mean - half:.2f}, {mean + half:.2f}] as far as the batches of "
            f"{records[0].config['batch_size']} do, {len(runs)} seeds."
        )
    ratio = layers[fastest][-1] / layers[slowest][-1]
    said.append(f"B of layer {fastest} ends {ratio:.1f} times as long as that of layer {slowest}.")
    first, last = (f"{growth['mean'][i]:.2f}" for i in (0, -1))
    said.append(
        f"With s from {growth['x'][0]:g} to {growth['x'][-1]:g} the last state is {first} to {last} "
        "times as long."
    )
    return said
