"""Texts that a decoder writes after prompts."""

from collections.abc import Sequence

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from allora_lab.data.answers import prompt_ids


@torch.inference_mode()
def generate_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_length: int,
    max_new_tokens: int,
    num_beams: int = 1,
    batch_size: int = 16,
) -> list[str]:
    """Return what the model writes after each prompt, without the prompt, by beam search.

    Prompts are cut to their last `max_length` tokens, fewer where the model has no more positions, and
    padded on the left, so that every text goes on from its own last token; nothing is drawn at random;
    the model's own generation settings are not read.  The model is left in the mode it was in.

    Raises ValueError when the new tokens alone would fill the model's positions.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None:
        if max_new_tokens >= positions:
            raise ValueError(
                f"max_new_tokens must be below the model's {positions} positions, got {max_new_tokens}"
            )
        max_length = min(max_length, positions - max_new_tokens)
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    ids = [prompt_ids(tokenizer, prompt, max_length) for prompt in prompts]
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    written = [""] * len(prompts)
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        longest = max(len(ids[row]) for row in rows)
        gaps = [longest - len(ids[row]) for row in rows]
        padded = [
            [tokenizer.pad_token_id] * gap + ids[row] for row, gap in zip(rows, gaps, strict=True)
        ]
        mask = [[0] * gap + [1] * (longest - gap) for gap in gaps]
        output = model.generate(
            input_ids=torch.tensor(padded, device=device),
            attention_mask=torch.tensor(mask, device=device),
            generation_config=settings,
        )
        texts = tokenizer.batch_decode(output[:, longest:], skip_special_tokens=True)
        for row, text in zip(rows, texts, strict=True):
            written[row] = text
    model.train(was_training)
    return written
