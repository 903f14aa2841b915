"""AB-LoRA's scores of every rank of MiniLM: 2R + 1 forward passes against the replay, in one run.

36 modules (query, key, value, both output.dense and intermediate.dense of six layers), r 8, so 577
passes; B random, since a rank with B zero would cost the replay nothing.  The batch is 32 dev
sentences as they come, padded to the longest, and then 32 that are cut to one length: what the
replay saves on padding is no merit of the replay.  It runs before and after the passes, so that a
machine whose speed drifts is fair to both.  Wall and CPU seconds (of all threads) are given, for
the machine may have other work; the ratio of the latter is the steadier one.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import peak_bytes, write_figures

from allora_lab import inject_adapters, load_model, load_text
from allora_lab.adapters.inject import adapted_layers
from allora_lab.allocation.importance import Batch, Scores, plain_scores
from allora_lab.allocation.replay import replayed_scores
from allora_lab.data.batches import collate, encode
from allora_lab.models.load import LoadedModel

TARGETS = ("query", "key", "value", "output.dense", "intermediate.dense")
R, QUICK_R, SENTENCES, MAX_LENGTH, LARGEST_DIFFERENCE = 8, 2, 32, 128, 1e-6


def parse() -> argparse.Namespace:
    """Return the command line's --quick, --copies, --dataset and --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"r {QUICK_R}: a quarter of the time")
    parser.add_argument("--copies", type=int, default=2, help="masks scored in one batch")
    parser.add_argument("--dataset", help="rotten_tomatoes, else rotten_tomatoes_rated")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


def adapted(r: int) -> LoadedModel:
    """Return MiniLM with gated layers whose B is random and small."""
    loaded = load_model("minilm")
    generator = torch.Generator().manual_seed(0)
    model = inject_adapters(
        loaded.model, "alora-ablation", r=r, target_modules=TARGETS, generator=generator
    )
    with torch.no_grad():
        for layer in adapted_layers(model).values():
            layer.lora_B.normal_(0, 0.02, generator=generator)
    model.eval()
    return loaded


def batches(loaded: LoadedModel, dataset: str | None) -> dict[str, Batch]:
    """Return the dev sentences that score ranks in a run, and as many without padding."""
    try:
        dev = load_text(dataset or "rotten_tomatoes").dev
    except (ConnectionError, ModuleNotFoundError):
        dev = load_text("rotten_tomatoes_rated").dev
    last = encode(loaded.tokenizer, dev.last(SENTENCES), MAX_LENGTH)
    mean = round(statistics.mean(last.lengths))
    cut = encode(loaded.tokenizer, dev, mean)
    whole = [row for row, length in enumerate(cut.lengths) if length == mean][:SENTENCES]
    return {"padded": collate(last, range(len(last))), "one length": collate(cut, whole)}


def timed(run: Callable[[], Scores]) -> tuple[Scores, dict[str, float]]:
    """Return scores, and the seconds they took: of the wall clock, and of the CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    scores = run()
    return scores, {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def peaks(model: torch.nn.Module, batch: Batch, copies: int) -> dict[str, int]:
    """Return the most bytes allocated at once: by one pass, and by the replay of the first module.

    No other module needs as much, so for the length of this the others have B zero.
    """
    layers = list(adapted_layers(model).values())
    kept = [layer.lora_B.detach().clone() for layer in layers]
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    with torch.no_grad():
        for layer in layers[1:]:
            layer.lora_B.zero_()
        found = {
            "plain": peak_bytes(lambda: model(**inputs)),
            "replayed": peak_bytes(lambda: replayed_scores(model, batch, copies=copies)),
        }
        for layer, B in zip(layers, kept, strict=True):
            layer.lora_B.copy_(B)
    return found


def compared(model: torch.nn.Module, batch: Batch, copies: int) -> dict[str, object]:
    """Return seconds, their ratios, the largest difference of scores, and peak memory."""
    first, before = timed(lambda: replayed_scores(model, batch, copies=copies))
    plain, seconds = timed(lambda: plain_scores(model, batch))
    second, after = timed(lambda: replayed_scores(model, batch, copies=copies))
    replayed = {clock: (before[clock] + after[clock]) / 2 for clock in before}
    differences = [
        (found[name] - row).abs().max().item()
        for name, row in plain.items()
        for found in (first, second)
    ]
    return {
        "tokens": list(batch["input_ids"].shape),
        "share_of_padding": 1 - batch["attention_mask"].float().mean().item(),
        "plain_seconds": seconds,
        "replayed_seconds": [before, after],
        "ratio": {clock: seconds[clock] / replayed[clock] for clock in seconds},
        "largest_difference": max(differences),
        "peak_bytes": peaks(model, batch, copies),
    }


def record_of(figures: dict[str, dict[str, Any]], ranks: int, copies: int) -> dict[str, Any]:
    """Return what is recorded: CPU seconds of plain passes and of the replay (mean of two turns)."""
    measured = {}
    for name, row in figures.items():
        measured[f"plain, {name}"] = [row["plain_seconds"]["cpu"]]
        measured[f"replayed, {name}"] = [statistics.mean(s["cpu"] for s in row["replayed_seconds"])]
    compared = "the scores of every rank of MiniLM: 2R + 1 forward passes, and the replay"
    setting = {"ranks": ranks, "copies": copies, **figures}
    return {"compared": compared, "unit": "CPU seconds", "measured": measured, "setting": setting}


def main() -> None:
    """Print seconds, ratio, largest difference and memory for a padded batch and one without."""
    options = parse()
    loaded = adapted(QUICK_R if options.quick else R)
    ranks = sum(layer.r for layer in adapted_layers(loaded.model).values())
    print(f"{ranks} ranks, {2 * ranks + 1} passes, {torch.get_num_threads()} thread(s)", flush=True)
    figures = {}
    for name, batch in batches(loaded, options.dataset).items():
        row = figures[name] = compared(loaded.model, batch, options.copies)
        size = " x ".join(map(str, row["tokens"]))
        print(f"{name} ({size} tokens, {row['share_of_padding']:.0%} padding)")
        for clock in ("wall", "cpu"):
            before, after = (seconds[clock] for seconds in row["replayed_seconds"])
            print(
                f"  {clock:4} seconds: plain {row['plain_seconds'][clock]:.1f}, replayed "
                f"{before:.1f} and {after:.1f}: {row['ratio'][clock]:.2f} times as fast"
            )
        plain, replayed = (bytes_ / 2**20 for bytes_ in row["peak_bytes"].values())
        print(f"  largest difference of scores {row['largest_difference']:.1e}")
        print(f"  peak memory: one pass {plain:.0f} MiB, replay {replayed:.0f} MiB", flush=True)
    write_figures(options.json, record_of(figures, ranks, options.copies))
    worst = max(row["largest_difference"] for row in figures.values())
    if worst >= LARGEST_DIFFERENCE:
        raise SystemExit(f"the scores differ by {worst:.1e}, which {LARGEST_DIFFERENCE:g} forbids")


if __name__ == "__main__":
    main()
