"""What a run is scored by: a classifier's accuracy, or what a decoder prefers and writes."""

import math
import re
import time
from collections.abc import Callable
from typing import Any

from transformers import PreTrainedModel

from allora_lab.config import RunConfig
from allora_lab.data.answers import EncodedAnswers
from allora_lab.data.batches import Encoded, batch_at, encode
from allora_lab.data.datasets import Decoding, prompt_set
from allora_lab.data.prompts import Prompt, PromptDataset, PromptSplit
from allora_lab.data.text import Split, TextDataset
from allora_lab.experiments.text_scores import require_libraries, text_scores
from allora_lab.models.load import LoadedModel
from allora_lab.training.evaluate import evaluate
from allora_lab.training.generate import generate_texts
from allora_lab.training.gradient_noise import gradient_noise
from allora_lab.training.likelihood import answer_loss, likeliest_options
from allora_lab.training.loop import NonFiniteLossError

Dataset = TextDataset | PromptDataset
Scores = dict[str, float]


def model_task(config: RunConfig) -> str:
    """Return the task a run's model is loaded for, as in `models.load.TASKS`."""
    return "causal-lm" if prompt_set(config.dataset) else "sequence-classification"


def number_of_labels(dataset: Dataset) -> int:
    """Return the classes of a data set; 2, which nothing reads, for prompts."""
    return len(dataset.label_names) if isinstance(dataset, TextDataset) else 2


def evaluation_split(config: RunConfig, loaded: LoadedModel, dataset: Dataset) -> Encoded:
    """Return the texts a run is scored on."""
    return encode(loaded.tokenizer, _held_out(config, dataset), config.max_length)


def _held_out(config: RunConfig, dataset: Dataset) -> Split | PromptSplit:
    split = dataset.dev if config.eval_split == "dev" else dataset.test
    return split.first(config.eval_size)


def label_names(dataset: Dataset) -> list[str] | None:
    """Return what label i of a data set is called; None for prompts."""
    return [*dataset.label_names] if isinstance(dataset, TextDataset) else None


def name_labels(model: PreTrainedModel, dataset: Dataset) -> None:
    """Write the labels' names into the model's configuration, where its users look them up."""
    if names := label_names(dataset):
        model.config.id2label = dict(enumerate(names))
        model.config.label2id = {name: number for number, name in enumerate(names)}


def cut_note(config: RunConfig, split: Encoded, what: str) -> list[str]:
    """Return a sentence that says how many rows lost tokens to `max_length`, or none if none did."""
    cut = sum(split.was_cut)
    words = f"{cut} of the {len(split)} {what} rows are longer than max_length {config.max_length}"
    return [f"{words} and are cut"] if cut else []


def training_notes(config: RunConfig, split: Encoded) -> list[str]:
    """Return what to know of the training rows: how many are cut, and a batch that takes them all."""
    notes = cut_note(config, split, "training")
    if config.batch_size > len(split):
        notes.append(
            f"batch_size {config.batch_size} is more than the {len(split)} training rows: every step "
            "takes all of them"
        )
    return notes


def scorer(
    config: RunConfig,
    loaded: LoadedModel,
    dataset: Dataset,
    on_note: Callable[[str], None] = lambda _note: None,
) -> Callable[[PreTrainedModel], Scores]:
    """Return what measures a model in the course of a run and at its end.

    Of sentences: `accuracy` (0 to 1) and `loss` (nats).  Of prompts: `loss` (nats a token of the
    answer) and, where there are options, `accuracy`, the mean over tasks of how often the right one
    is the likeliest.  `on_note` is given a sentence about what is cut.  Raises NonFiniteLossError when the loss is not finite, and ModuleNotFoundError
    at once when the libraries that score texts at the end are missing.
    """
    held_out, split = _held_out(config, dataset), evaluation_split(config, loaded, dataset)
    for note in cut_note(config, split, config.eval_split):
        on_note(note)
    if isinstance(split, EncodedAnswers) and not held_out.prompts[0].options:
        require_libraries()  # which the end needs: better said before training

    def score(model: PreTrainedModel) -> Scores:
        if isinstance(split, EncodedAnswers):
            result, _chosen = _preferred(config, loaded, model, held_out.prompts, split)
        else:
            result = evaluate(model, split)
        _require_finite(result["loss"])
        return result

    return score


class Evaluation:
    """What is measured in the course of training; `seconds` is what that took, to be left out."""

    def __init__(
        self,
        config: RunConfig,
        loaded: LoadedModel,
        train: Encoded,
        dataset: Dataset,
        on_note: Callable[[str], None],
    ) -> None:
        self.model, self.seed = loaded.model, config.seed
        self.score = scorer(config, loaded, dataset, on_note)
        self.seconds = 0.0
        self.batches = [
            batch_at(train, step=step, batch_size=config.batch_size, seed=config.seed)
            for step in range(config.gradient_draws or 0)
        ]

    def __call__(self) -> dict[str, Any]:
        """Return the scores on the run's split, and the gradient's spread if asked for."""
        start = time.perf_counter()
        measured: dict[str, Any] = self.score(self.model)
        if self.batches:
            spread = gradient_noise(self.model, self.batches, seed=self.seed)
            measured["gradient_noise"] = spread
        self.seconds += time.perf_counter() - start
        return measured


def _require_finite(loss: float) -> None:
    if not math.isfinite(loss):
        raise NonFiniteLossError(f"the evaluation loss is {loss}: lower lr or weight_decay")


def _preferred(
    config: RunConfig,
    loaded: LoadedModel,
    model: PreTrainedModel,
    prompts: tuple[Prompt, ...],
    split: EncodedAnswers,
) -> tuple[Scores, list[str]]:
    """Return loss and, where there are options, accuracy; and the likeliest option of each."""
    loss = answer_loss(model, split)
    if not prompts[0].options:
        return {"loss": loss}, []
    chosen = likeliest_options(model, loaded.tokenizer, prompts, config.max_length)
    return {"accuracy": _mean_over_tasks(prompts, chosen), "loss": loss}, chosen


def final_scores(
    config: RunConfig, loaded: LoadedModel, dataset: Dataset, model: PreTrainedModel
) -> Scores:
    """Return what is measured once, at the end: `scorer`'s values and what the model writes.

    For prompts with options: `accuracy_TASK` by likelihood and `generated_accuracy`,
    `generated_accuracy_TASK` by the first option named in the text it writes, as LLM-Adapters and
    DoRA score it, and `chance`.  For others: `bleu`, `rouge_l`, `meteor` (see `text_scores`).
    """
    row = None if isinstance(dataset, TextDataset) else prompt_set(config.dataset)
    if row is None:
        return scorer(config, loaded, dataset)(model)
    prompts, split = _held_out(config, dataset).prompts, evaluation_split(config, loaded, dataset)
    result, likeliest = _preferred(config, loaded, model, prompts, split)
    _require_finite(result["loss"])
    written = _written(config, loaded, model, prompts, row.decoding)
    if not prompts[0].options:
        return result | text_scores(written, [p.references or (p.answer.strip(),) for p in prompts])
    named = [first_named(text, prompt) for text, prompt in zip(written, prompts, strict=True)]
    for prefix, chosen in (("accuracy", likeliest), ("generated_accuracy", named)):
        by_task = accuracy_by_task(prompts, chosen)
        result |= {f"{prefix}_{task}": value for task, value in by_task.items()}
    result["generated_accuracy"] = _mean_over_tasks(prompts, named)
    return result | {"chance": chance(prompts)}


def _written(
    config: RunConfig,
    loaded: LoadedModel,
    model: PreTrainedModel,
    prompts: tuple[Prompt, ...],
    decoding: Decoding,
) -> list[str]:
    return [
        text.strip()
        for text in generate_texts(
            model,
            loaded.tokenizer,
            [prompt.text for prompt in prompts],
            max_length=config.max_length,
            max_new_tokens=decoding.max_new_tokens,
            num_beams=decoding.num_beams,
        )
    ]


def first_named(text: str, prompt: Prompt) -> str:
    """Return the option whose last word a text names first; "" when it names none.

    The training rows say "the correct answer is answer2", of which "answer2" decides.
    """
    by_word = {option.split()[-1]: option for option in prompt.options}
    found = re.search("|".join(map(re.escape, by_word)), text)
    return by_word[found[0]] if found else ""


def accuracy_by_task(prompts: tuple[Prompt, ...], chosen: list[str]) -> dict[str, float]:
    """Return the share of prompts of each task whose answer was chosen, from 0 to 1."""
    hits: dict[str, list[bool]] = {}
    for prompt, choice in zip(prompts, chosen, strict=True):
        hits.setdefault(prompt.group, []).append(choice == prompt.answer)
    return {task: sum(right) / len(right) for task, right in sorted(hits.items())}


def _mean_over_tasks(prompts: tuple[Prompt, ...], chosen: list[str]) -> float:
    values = accuracy_by_task(prompts, chosen).values()
    return sum(values) / len(values)


def chance(prompts: tuple[Prompt, ...]) -> float:
    """Return the accuracy of a guess, the mean over tasks of 1 / number of options."""
    shares: dict[str, list[float]] = {}
    for prompt in prompts:
        shares.setdefault(prompt.group, []).append(1 / len(prompt.options))
    return sum(sum(v) / len(v) for v in shares.values()) / len(shares)
