"""Sentences a second: this lab's loop against PEFT with Hugging Face's Trainer.

1,024 sentences, one epoch, batch 16, r 8 on query and value of MiniLM, AdamW, the model's own
dropout off in both.  Ours sorts the whole epoch by length (`length_pool` 64), as widely as Trainer's
own sampling by length (50 batches), which is the third contender.  The contenders take turns, so
that a machine whose speed drifts is fair to all; every ratio is of one round.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial

import torch
from common import R, describe_ratio, parse, peft_twin, write_figures
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from allora_lab import inject_adapters, load_model, load_text
from allora_lab.data.batches import EncodedSplit, batch_at, encode
from allora_lab.training.loop import train
from allora_lab.training.optimizers import build_optimizer

SENTENCES, BATCH, LR, SEED, MAX_LENGTH = 1024, 16, 1e-3, 0, 128
TARGETS = ("query", "value")


def our_batch(split: EncodedSplit, step: int) -> dict[str, torch.Tensor]:
    """Return our batch of a step."""
    return batch_at(split, step=step, batch_size=BATCH, seed=SEED, length_pool=steps_of(split))


def steps_of(split: EncodedSplit) -> int:
    """Return the steps of one epoch."""
    return len(split) // BATCH


class Rows(torch.utils.data.Dataset):
    """The encoded sentences as Trainer wants them: one dictionary a row."""

    def __init__(self, split: EncodedSplit) -> None:
        self.split = split

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self.split)

    def __getitem__(self, row: int) -> dict[str, object]:
        """Return token ids, mask and label of one sentence."""
        ids = list(self.split.token_ids[row])
        return {
            "input_ids": ids,
            "attention_mask": [1] * len(ids),
            "labels": self.split.labels[row],
        }


def run_ours(split: EncodedSplit) -> float:
    """Return the seconds of one epoch in this lab's loop."""
    model = inject_adapters(load_model("minilm").model, "lora", r=R, target_modules=TARGETS)
    optimizer = build_optimizer("adamw", model, lr=LR, head_lr=LR, weight_decay=0.0)
    start = time.perf_counter()
    train(
        model,
        optimizer,
        partial(our_batch, split),
        steps=steps_of(split),
        seed=SEED,
        run_id="throughput",
    )
    return time.perf_counter() - start


def run_trainer(split: EncodedSplit, folder: str, sampling: str) -> float:
    """Return the seconds of one epoch of Trainer over PEFT's twin, with dynamic padding."""
    twin = peft_twin(TARGETS)
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        learning_rate=LR,
        train_sampling_strategy=sampling,
        dataloader_pin_memory=False,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        seed=SEED,
    )
    trainer = Trainer(
        model=twin.model,
        args=arguments,
        train_dataset=Rows(split),
        data_collator=DataCollatorWithPadding(twin.tokenizer),
    )
    trainer.remove_callback(PrinterCallback)
    start = time.perf_counter()
    trainer.train()
    return time.perf_counter() - start


def gemm_peak() -> float:
    """Return the fastest matrix product seen here, in FLOP/s: 512 x 384 by 384 x 1536, float32."""
    x, w = torch.randn(512, 384), torch.randn(1536, 384)
    best = float("inf")
    for _ in range(200):
        start = time.perf_counter()
        torch.nn.functional.linear(x, w)
        best = min(best, time.perf_counter() - start)
    return 2 * 512 * 384 * 1536 / best


def padded_tokens(split: EncodedSplit) -> int:
    """Return the tokens, padding included, of one epoch of our batches."""
    return sum(our_batch(split, step)["input_ids"].numel() for step in range(steps_of(split)))


def random_padded_tokens(split: EncodedSplit) -> int:
    """Return the tokens of one epoch when batches are drawn at random, as Trainer does."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(SEED)).tolist()
    lengths = [split.lengths[row] for row in order]
    batches = [lengths[i : i + BATCH] for i in range(0, len(split), BATCH)]
    return sum(BATCH * max(batch) for batch in batches)


def floor_seconds(tokens: int, peak: float) -> float:
    """Return the least time of an epoch: the encoder's products, forward and input gradient.

    Six layers of 4 x 384² + 2 x 384 x 1536 weights; the first layer's query, key and value need no
    input gradient.  Attention, adapters, norms and activations are left out.
    """
    encoder = 6 * (4 * 384**2 + 2 * 384 * 1536)
    return 2 * tokens * (2 * encoder - 3 * 384**2) / peak


def main() -> None:
    """Time the three in turn and print sentences a second, ratios, and where the time goes."""
    options = parse(__doc__.splitlines()[0], rounds=6)
    tokenizer, sentences = load_model("minilm").tokenizer, 64 if options.tiny else SENTENCES
    split = encode(tokenizer, load_text("rotten_tomatoes_rated").train.first(sentences), MAX_LENGTH)
    with tempfile.TemporaryDirectory() as folder:
        contenders: dict[str, Callable[[], float]] = {
            "allora_lab": partial(run_ours, split),
            "PEFT + Trainer": partial(run_trainer, split, folder, "random"),
            "PEFT + Trainer, by length": partial(run_trainer, split, folder, "group_by_length"),
        }
        run_ours(split)  # warm-up
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(options.rounds):
            for name, contender in contenders.items():
                seconds[name].append(contender())
    report(split, seconds, options)


def report(split: EncodedSplit, seconds: dict[str, list[float]], options: object) -> None:
    """Print and write what was measured."""
    ours, *others = seconds
    for name, values in seconds.items():
        print(f"{name:26} {len(split) / statistics.median(values):6.1f} sentences/s")
    ratios = {
        name: [b / a for a, b in zip(seconds[ours], seconds[name], strict=True)] for name in others
    }
    for name, values in ratios.items():
        print(f"allora_lab is {describe_ratio(values)} times as fast as {name}")
    tokens, peak = padded_tokens(split), gemm_peak()
    useful, by_chance = sum(split.lengths), random_padded_tokens(split)
    floor = floor_seconds(tokens, peak)
    share = floor / statistics.median(seconds[ours])
    print(
        f"tokens: {useful} real; {tokens} with our padding, {by_chance} in random batches\n"
        f"matrix peak {peak / 1e9:.0f} GFLOP/s: floor {floor:.1f} s for our tokens; our loop spends "
        f"{share:.0%} of its time there"
    )
    setting = {"sentences": len(split), "tokens": tokens, "tokens_at_random": by_chance}
    speed = {"peak_flop_per_second": peak, "floor_seconds": floor}
    compared = "one epoch in this lab's loop, and in Hugging Face's Trainer over PEFT's LoRA"
    write_figures(
        options.json,
        {
            "compared": compared,
            "unit": "seconds",
            "measured": seconds,
            "setting": {**setting, **speed},
        },
    )


if __name__ == "__main__":
    main()
