"""The weights of a model folder: read as they are named there, or refused with what does not fit."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from allora_lab.models.config_file import NO_MODEL
from allora_lab.models.folder import stored_tensors
from allora_lab.models.refusal import Refusing

TASKS = {
    "sequence-classification": AutoModelForSequenceClassification,
    "causal-lm": AutoModelForCausalLM,
}
FLOATS = ("F64", "F32", "F16", "BF16")
SPARE = 10_000_000  # parameters that may be missing before memory is at stake: 40 MB


def read_weights(
    folder: Path, task: str, config: PreTrainedConfig, seed: int, dtype: torch.dtype
) -> PreTrainedModel:
    """Read a folder's weights; a head that they lack is drawn from `seed`.

    Raises
    ------
    ValueError
        When the configuration is of a model much larger than the weights, the weights lack a
        pretrained tensor, one has another shape or holds whole numbers, or the model cannot be built.
    """
    stored = stored_tensors(folder)
    _require_size(folder, task, config, sum(math.prod(shape) for _, shape in stored.values()))
    model, lost = _read_as(folder, task, config, seed, dtype, {})
    words_in = _input_embedding(model)
    if words_in in lost and getattr(config, "tie_word_embeddings", False):
        # a decoder whose one matrix serves both ends may be stored under the name of the other end
        model, lost = _read_as(folder, task, config, seed, dtype, {r"^lm_head\.weight$": words_in})
    if lost:
        raise ValueError(
            f"the weights in {folder} do not fit its config.json for {task}: {len(lost)} tensors "
            f"such as {min(lost)} are missing or of another shape; use the files of one model"
        )
    _require_float(folder, model, {name: kind for name, (kind, _) in stored.items()})
    return model


def _require_size(folder: Path, task: str, config: PreTrainedConfig, stored: int) -> None:
    """Refuse to fill memory for a model that the weights cannot hold; on the meta device it is free."""
    if _is_of_its_code(config):
        return  # code of its own may not run there
    with Refusing(f"{folder / 'config.json'} {NO_MODEL}"), torch.random.fork_rng(devices=[]):
        with torch.device("meta"):
            model = TASKS[task].from_config(config)
        size = sum(p.numel() for n, p in model.named_parameters() if _is_pretrained(n, model))
    if size > 2 * stored + SPARE:
        raise ValueError(
            f"{folder / 'config.json'} describes a model of {size:,} parameters and the weights hold "
            f"{stored:,}: use the files of one model"
        )


def _require_float(folder: Path, model: PreTrainedModel, kinds: Mapping[str, str]) -> None:
    """Refuse parameters stored as whole numbers; buffers such as position ids may be."""
    whole = {name: kind for name, kind in kinds.items() if kind not in FLOATS}
    for name, _ in model.named_parameters() if whole else ():
        found = next((n for n in whole if f".{name}".endswith(f".{n}") or n.endswith(name)), None)
        if found:
            raise ValueError(
                f"{found} in {folder} is stored as {whole[found]}, as quantized weights are: use the "
                "model's weights in float32, float16 or bfloat16"
            )


def _read_as(
    folder: Path,
    task: str,
    config: PreTrainedConfig,
    seed: int,
    dtype: torch.dtype,
    renamed: dict[str, str],
) -> tuple[PreTrainedModel, list[str]]:
    """Return the model, and the names of pretrained tensors that the files lack or misshape."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed CUDA
        with Refusing(f"the model in {folder} cannot be built"):
            model, report = TASKS[task].from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=_is_of_its_code(config),
                local_files_only=True,
                ignore_mismatched_sizes=True,  # a head with other classes is drawn anew
                output_loading_info=True,
                key_mapping=renamed or None,
            )
    misfits = [*report["missing_keys"], *(row[0] for row in report["mismatched_keys"])]
    return model, [key for key in misfits if task == "causal-lm" or _is_pretrained(key, model)]


def _is_of_its_code(config: PreTrainedConfig) -> bool:
    """Tell a configuration that a model's own code made, after `allow_code`, from transformers'."""
    return type(config).__module__.startswith("transformers_modules.")


def _input_embedding(model: PreTrainedModel) -> str:
    """Return the name of the matrix that turns token ids into vectors."""
    layer = model.get_input_embeddings()
    return next(f"{name}.weight" for name, module in model.named_modules() if module is layer)


def _is_pretrained(key: str, model: PreTrainedModel) -> bool:
    """Tell the pretrained body's tensors from a head's; a pooler is often left out of the files."""
    return key.startswith(f"{model.base_model_prefix}.") and ".pooler." not in key
