"""The small decoder before and after a minute of E2E, and the table of the recorded runs."""

from statistics import fmean

import torch

from allora_lab.build import inject_adapters
from allora_lab.data.batches import batch_at, encode
from allora_lab.data.datasets import load_dataset
from allora_lab.experiments.allocation_content import final_ranks
from allora_lab.experiments.collected import collect, mean_and_half
from allora_lab.methods import METHODS
from allora_lab.models.load import load_model
from allora_lab.models.small_decoder import SMALL_DECODER
from allora_lab.training.generate import generate_texts


def e2e_table() -> str:
    """Return BLEU, ROUGE-L, METEOR and the ranks at the end, over the seeds of `sweeps/e2e.toml`.

    Scores are means ± half of a 95 % t-interval, ranks are means.

    Raises FileNotFoundError when no run is recorded.
    """
    groups: dict[str, list] = {}
    for record in collect("e2e").records:
        threshold = record.config["gate_threshold"]
        label = METHODS[record.config["method"]].label + (
            f", ξ = {threshold:g}" if threshold else ""
        )
        groups.setdefault(label, []).append(record)
    names = {"BLEU": "bleu", "ROUGE-L": "rouge_l", "METEOR": "meteor"}
    heads = "".join(f"{name:>13}" for name in names)
    lines = [f"{'':20}{heads}{'ranks':>7}{'seeds':>7}"]
    for label, runs in groups.items():
        scores = ""
        for metric in names.values():
            mean, half = mean_and_half([100 * run.metrics[f"eval_{metric}"] for run in runs])
            scores += (f"{mean:.1f}" + (f" ± {half:.1f}" if half else "")).rjust(13)
        ranks = fmean(sum(final_ranks(run).values()) for run in runs)
        lines.append(f"{label:20}{scores}{ranks:7.0f}{len(runs):7}")
    return "\n".join(lines)


def before_and_after(method: str = "allora", steps: int = 96, lr: float = 0.032) -> str:
    """Return one record of E2E and what the decoder writes of it before and after some steps.

    r 4 on all linear layers, AdamW, batches of 16 of the first 1,024 texts, seed 0, beam 5.

    Raises
    ------
    FileNotFoundError, ConnectionError
        When the decoder or the data are not here and cannot be fetched.
    """
    loaded = load_model(SMALL_DECODER, "causal-lm")
    dataset = load_dataset("e2e")
    decoder, record = loaded.model, dataset.dev.prompts[0].text
    inject_adapters(
        decoder,
        method,
        r=4,
        target_modules="all-linear",
        generator=torch.Generator().manual_seed(0),
    )
    split = encode(loaded.tokenizer, dataset.train.first(1024), 128)

    def written() -> str:
        settings = {"max_length": 128, "max_new_tokens": 40, "num_beams": 5}
        return generate_texts(decoder, loaded.tokenizer, [record], **settings)[0].strip()

    before = written()
    optimizer = torch.optim.AdamW([p for p in decoder.parameters() if p.requires_grad], lr=lr)
    for step in range(steps):
        decoder(**batch_at(split, step=step, batch_size=16, seed=0)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return f"record  {record}\nbefore  {before}\nafter   {written()}"
