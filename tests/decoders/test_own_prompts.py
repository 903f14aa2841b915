"""Instructions and chats of the user's own: what is learned, and the row that is at fault."""

import json

import pytest

from allora_lab.data.answers import encode_answers
from allora_lab.data.chat import in_template
from allora_lab.data.datasets import load_dataset, prompt_set

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
REFUSING = "{{ raise_exception('no system message') }}"


def save(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def chat(number, *more):
    said = [("system", "be kind"), ("user", f"say {number}"), ("assistant", f"so {number}"), *more]
    return {"messages": [{"role": role, "content": text} for role, text in said]}


def prompts_of(data):
    return [p for s in (data.train, data.dev, data.test) for p in s.prompts]


def test_forty_rows_of_one_instruction_are_refused(tmp_path):
    rows = [{"instruction": "say", "output": str(i)} for i in range(40)]
    with pytest.raises(ValueError, match="no row for train"):
        load_dataset(save(tmp_path / "m.jsonl", rows))


GOOD = {"instruction": "say", "output": "so"}
BAD = {
    "an empty output": ({"instruction": "say", "output": " \n"}, "empty output"),
    "an input that is no text": ({**GOOD, "input": {"a": [1]}}, "'input'"),
    "no output": ({"instruction": "say"}, "'output'"),
    "an output that is no text": ({**GOOD, "output": 3}, "'output'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_instruction_is_refused_with_its_line(tmp_path, case):
    row, message = BAD[case]
    with pytest.raises(ValueError, match=rf"line 2 of .*m\.jsonl .*{message}"):
        load_dataset(save(tmp_path / "m.jsonl", [GOOD, row]))


def test_instructions_that_occur_twice_or_in_two_splits_are_counted(tmp_path):
    rows = [{"instruction": f"Say {i % 18}", "output": f"so {i}"} for i in range(40)]
    data = load_dataset(save(tmp_path / "m.jsonl", rows))
    kept = len(prompts_of(data))
    assert f"40 rows: {len(data.train)} train, 4 dev, 4 test" in data.notes[0]
    assert f"{40 - kept} rows" in data.notes[1]


def test_every_answer_of_a_chat_is_learned_and_a_chat_stays_in_one_split(tmp_path):
    rows = [chat(i, ("user", "again"), ("assistant", f"yes {i}")) for i in range(30)]
    key = save(tmp_path / "m.jsonl", rows)
    data = load_dataset(key)
    assert prompt_set(key) is not None
    assert [len(s) for s in (data.train, data.dev, data.test)] == [48, 6, 6]
    found = {p.answer: p for p in prompts_of(data)}
    assert found[" so 3"].text == "System: be kind\n\nUser: say 3\n\nAssistant:"
    assert found[" yes 3"].text.endswith("Assistant: so 3\n\nUser: again\n\nAssistant:")
    assert found[" yes 3"].references == ("yes 3",)
    for split in (data.train, data.dev, data.test):
        numbers = [p.answer.split()[-1] for p in split.prompts]
        assert all(numbers.count(number) == 2 for number in numbers)


def test_a_chat_is_written_by_the_tokenizers_template_and_the_loss_is_on_the_answer(
    tmp_path, tokenizer
):
    data = load_dataset(save(tmp_path / "m.jsonl", [chat(i) for i in range(20)]))
    plain = in_template(data, tokenizer)
    assert prompts_of(plain) == prompts_of(data)
    assert any("no chat template" in note for note in plain.notes)
    tokenizer.chat_template = TEMPLATE
    written = in_template(data, tokenizer)
    found = {p.references[0]: p for p in prompts_of(written)}["so 3"]
    assert found.text == "<system>be kind</s>\n<user>say 3</s>\n<assistant>"
    assert found.answer == "so 3"
    split = encode_answers(tokenizer, written.test, 64)
    assert all(ids.count(tokenizer.bos_token_id) == 1 for ids in split.token_ids)
    for ids, start in zip(split.token_ids, split.answer_from, strict=True):
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.eos_token_id not in ids[start:-1]


def test_a_chat_that_the_template_refuses_is_one_sentence(tmp_path, tokenizer):
    data = load_dataset(save(tmp_path / "m.jsonl", [chat(i) for i in range(20)]))
    tokenizer.chat_template = REFUSING
    with pytest.raises(ValueError, match="no system message"):
        in_template(data, tokenizer)


MALFORMED = {
    "no list": {"messages": "hello"},
    "no message": {"messages": []},
    "no answer": {"messages": [{"role": "user", "content": "a"}]},
    "an answer to nothing": {"messages": [{"role": "assistant", "content": "a"}]},
    "an empty answer": {"messages": [*chat(1)["messages"], {"role": "assistant", "content": " "}]},
    "a message that is text": {"messages": ["a"]},
    "another role": {"messages": [{"role": "robot", "content": "a"}]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_chat_is_refused_with_its_line(tmp_path, case):
    with pytest.raises(ValueError, match=r"line 2 of .*m\.jsonl "):
        load_dataset(save(tmp_path / "m.jsonl", [chat(0), MALFORMED[case]]))
