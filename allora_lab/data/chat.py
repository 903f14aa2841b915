"""Chats: rows of `messages`, each with a role and its content; every answer is learned.

Each message of the assistant becomes a prompt, the messages before it, with that answer.  So the
loss is on the assistant's tokens alone.  A tokenizer that has a chat template writes the prompts;
for another they are written as "User: ...", "Assistant: ...".
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from allora_lab.data.json_rows import Numbered, text_of
from allora_lab.data.prompts import Prompt, PromptDataset, PromptRow, PromptSplit
from allora_lab.data.splits import TextDataset
from allora_lab.models.refusal import Refusing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLES = ("system", "user", "assistant")
EXPECTED = (
    'each message needs text under role and content, such as {"role": "user", "content": "Hello"}'
)


def chat_row(numbered: Numbered) -> PromptRow:
    """Return a prompt for each answer of a chat.

    Raises ValueError naming a row whose messages are malformed or hold no answer.
    """
    where, row = numbered
    messages = row["messages"] if isinstance(row.get("messages"), list) else []
    turns = tuple(_turn(message, where) for message in messages)
    prompts = tuple(
        Prompt(
            _plain(turns[:place]),
            f" {said.strip()}",
            references=(said.strip(),),
            turns=turns[: place + 1],
        )
        for place, (role, said) in enumerate(turns)
        if role == "assistant" and place > 0
    )
    if not prompts:
        raise ValueError(
            f"{where} needs a list of messages in which the assistant answers: {EXPECTED}"
        )
    return prompts


def _turn(message: object, where: str) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise _malformed(where, message)
    role, content = (text_of(message, name, where, EXPECTED) for name in ("role", "content"))
    if role not in ROLES:
        raise ValueError(f"{where} has the role {role!r:.40}: choose one of {', '.join(ROLES)}")
    if role == "assistant" and not content.strip():
        raise ValueError(f"{where} has an empty answer: write one, or remove the row")
    return role, content


def _malformed(where: str, message: object) -> ValueError:
    return ValueError(f"{where} has the message {message!r:.40}: {EXPECTED}")


def _plain(turns: tuple[tuple[str, str], ...]) -> str:
    """Return the messages so far, up to where the answer begins."""
    return (
        "".join(f"{role.capitalize()}: {said.strip()}\n\n" for role, said in turns) + "Assistant:"
    )


def in_template(
    dataset: TextDataset | PromptDataset, tokenizer: "PreTrainedTokenizerBase"
) -> TextDataset | PromptDataset:
    """Return a set of chats as a tokenizer's template writes them, and any other set as it is.

    Raises ValueError when the template refuses a chat, as some do a system message.
    """
    if isinstance(dataset, TextDataset) or not dataset.train.prompts[0].turns:
        return dataset
    if not tokenizer.chat_template:
        note = (
            'the tokenizer has no chat template: chats are written as "User: ...", "Assistant: ..."'
        )
        return replace(dataset, notes=(*dataset.notes, note))
    splits = {
        name: PromptSplit(tuple(_templated(p, tokenizer) for p in getattr(dataset, name).prompts))
        for name in ("train", "dev", "test")
    }
    return replace(dataset, **splits)


def _templated(prompt: Prompt, tokenizer: "PreTrainedTokenizerBase") -> Prompt:
    messages = [{"role": role, "content": said} for role, said in prompt.turns]
    with Refusing("the chat template of the tokenizer refuses a row", "change the row"):
        before = tokenizer.apply_chat_template(
            messages[:-1], tokenize=False, add_generation_prompt=True
        )
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
    answer = whole.removeprefix(before) if whole.startswith(before) else messages[-1]["content"]
    if (start := tokenizer.bos_token) and tokenizer("")["input_ids"][:1] == [
        tokenizer.bos_token_id
    ]:
        before = before.removeprefix(start)  # which the tokenizer itself puts before every text
    end = tokenizer.eos_token or ""  # which is put after every answer
    return replace(prompt, text=before, answer=answer.rstrip().removesuffix(end))
