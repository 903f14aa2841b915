"""Prompts are read from the files people have, and the file's fault is named when they are not."""

import gzip
import io
import json
import os
import tarfile

import pytest

from allora_lab.data.commonsense import options_of
from allora_lab.data.datasets import load_dataset, prompt_set

COUNTS = {"commonsense": (15972, 1774, 12358), "e2e": (40859, 547, 630)}
QUESTION = "Which is wet?\n\nAnswer1: sand Answer2: water\n\nAnswer format: answer1/answer2"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLORA_LAB_DATA", str(tmp_path))
    return tmp_path


def question(number, answer="answer2", asked=QUESTION):
    asked = f"{number}: {asked}"
    return {"instruction": asked, "output": f"the correct answer is {answer}", "answer": answer}


def put_commonsense(folder, **tasks):
    (folder / "commonsense").mkdir()
    for name, rows in tasks.items():
        text = json.dumps(rows).encode()
        (folder / "commonsense" / f"{name.replace('__', '-')}.json.gz").write_bytes(
            gzip.compress(text)
        )


def put_e2e(folder, records, texts, valid="name : A||A is .\n", test="name : B||B is .\n"):
    where = folder / "e2e_nlg"
    where.mkdir()
    with tarfile.open(where / "e2e_aligned.tar.gz", "w:gz") as archive:
        for name, lines in (("src_train.txt", records), ("train.txt", texts)):
            content = "\n".join(lines).encode()
            info = tarfile.TarInfo(f"e2e_aligned/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    for name, text in (("valid", valid), ("test", test)):
        (where / f"{name}.txt.gz").write_bytes(gzip.compress(text.encode()))


@pytest.mark.skipif("ALLORA_LAB_DATA" not in os.environ, reason="ALLORA_LAB_DATA is not set")
@pytest.mark.parametrize("key", COUNTS)
def test_the_real_sets_have_the_counted_prompts_and_share_none_between_splits(key):
    data = load_dataset(key)
    assert (len(data.train), len(data.dev), len(data.test)) == COUNTS[key]
    texts = [{p.text for p in split.prompts} for split in (data.train, data.dev, data.test)]
    assert not texts[2] & (texts[0] | texts[1])
    if key == "commonsense":
        groups = [prompt.group for prompt in data.test.prompts[:70]]
        assert {groups.count(group) for group in groups} == {10}


def test_a_question_keeps_its_options_and_its_answer_is_one_of_them(folder):
    put_commonsense(
        folder,
        boolq_train=[question(i) for i in range(20)],
        boolq_test=[question(100), question(3)],  # 3 is learned from too, so it goes there
        piqa_test=[question(200, "answer1")],
    )
    data = load_dataset("commonsense")
    assert [len(split) for split in (data.train, data.dev, data.test)] == [18, 1, 3]
    assert [p.group for p in data.test.prompts] == ["boolq", "piqa", "boolq"]
    for prompt in data.train.prompts:
        assert prompt.answer == "the correct answer is answer2"
        assert prompt.options == tuple(f"the correct answer is answer{n}" for n in (1, 2))
        assert prompt.text.endswith(f"{QUESTION}\n\n### Response:\n")


def test_llm_adapters_own_layout_is_read(folder):
    (folder / "commonsense" / "boolq").mkdir(parents=True)
    rows = [question(i) for i in range(20)]
    (folder / "commonsense" / "commonsense_170k.json").write_text(json.dumps(rows))
    (folder / "commonsense" / "boolq" / "test.json").write_text(json.dumps([question(99)]))
    data = load_dataset("commonsense")
    assert (len(data.train), len(data.test)) == (18, 1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([question(1, "answer3")], "has the answer 'answer3', which is none of answer1, answer2"),
        ([question(1, asked="Which?")], "does not end in 'Answer format: a/b'"),
        ([{"instruction": "x"}], "row 1 of .* has no text under 'output'"),
        ([], "has no row"),
    ],
)
def test_a_question_that_is_not_as_expected_is_named(folder, rows, message):
    put_commonsense(folder, boolq_train=rows, boolq_test=[question(5)])
    with pytest.raises(ValueError, match=message):
        load_dataset("commonsense")


def test_a_damaged_file_is_named(folder):
    put_commonsense(folder, boolq_train=[question(1)], boolq_test=[question(5)])
    path = folder / "commonsense" / "boolq_train.json.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"boolq_train.json.gz is damaged or cut short"):
        load_dataset("commonsense")


@pytest.mark.parametrize("key", ["commonsense", "e2e"])
def test_without_the_folder_the_message_says_what_to_put_where(monkeypatch, key):
    monkeypatch.delenv("ALLORA_LAB_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"ALLORA_LAB_DATA/.* copy them"):
        load_dataset(key)


def test_options_come_from_the_last_line():
    asked = "Say a/b.\n\nAnswer format: true/false"
    assert options_of(asked) == ("true", "false")


def test_records_of_both_sources_are_written_alike(folder):
    record = (
        "__start_name__ The Vaults __end_name__ __start_eatType__ pub __end_eatType__ "
        "__start_customerrating__ 5 out of 5 __end_customerrating__"
    )
    learned = "name : The Vaults | Type : pub | customer rating : 5 out of 5 ||"
    held = "name : A | Type : pub||A is a pub . \nname : A | Type : pub||The pub is A . \n"
    spoken = ["The Vaults is a pub . <eos>|||0,2,0 4,5,1", "B it is . <eos>|||0,1,0"]
    put_e2e(folder, [record, "__start_name__ B __end_name__"], spoken, valid=held)
    data = load_dataset("e2e")
    (prompt,) = data.train.prompts  # the record of B stands in test, so it is not learned from
    assert (prompt.text, prompt.answer) == (learned, " The Vaults is a pub .")
    (dev,) = data.dev.prompts
    assert dev.text == "name : A | Type : pub ||"
    assert dev.references == ("A is a pub .", "The pub is A .")
    assert dev.answer == " A is a pub ."


def test_records_without_texts_are_refused(folder):
    put_e2e(folder, ["__start_name__ C __end_name__"], [])
    with pytest.raises(ValueError, match="has 1 records and 0 texts"):
        load_dataset("e2e")


def test_a_line_without_bars_is_named(folder):
    put_e2e(folder, ["a"], ["b"], test="name : B||B .\nname : C C .\n")
    with pytest.raises(ValueError, match=r"line 2 of .*test.txt.gz is not 'record\|\|text'"):
        load_dataset("e2e")


def test_a_missing_file_of_e2e_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"lacks .*e2e_aligned.tar.gz"):
        load_dataset("e2e")


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_a_file_of_instructions_is_parted_and_shares_no_prompt(tmp_path, ending):
    rows = [{"instruction": f"Say {i % 18}", "input": "", "output": f"so {i}"} for i in range(40)]
    rows[0]["input"] = "of this"
    path = tmp_path / f"mine.{ending}"
    lines = "\n".join(map(json.dumps, rows)) if ending == "jsonl" else json.dumps(rows)
    path.write_text(lines)
    data = load_dataset(str(path))
    splits = [{p.text for p in s.prompts} for s in (data.train, data.dev, data.test)]
    assert [len(data.dev), len(data.test)] == [4, 4]
    assert not splits[0] & (splits[1] | splits[2])
    assert not splits[1] & splits[2]
    everything = [p for s in (data.train, data.dev, data.test) for p in s.prompts]
    with_input = [p for p in everything if "### Input:\nof this\n" in p.text]
    assert all("paired with an input" in p.text for p in with_input)


def test_too_few_instructions_and_no_file_are_refused(tmp_path):
    path = tmp_path / "few.json"
    path.write_text(json.dumps([{"instruction": "a", "output": "b"}] * 30))
    with pytest.raises(ValueError, match="has 1 rows that differ: it takes 10"):
        load_dataset(str(path))
    with pytest.raises(FileNotFoundError, match=r"there is no file .*gone.json"):
        load_dataset(str(tmp_path / "gone.json"))


def test_keys_of_classified_texts_have_no_row_and_unknown_ones_are_refused():
    assert prompt_set("rotten_tomatoes") is None
    assert prompt_set("e2e").decoding.num_beams == 5
    with pytest.raises(ValueError, match="did you mean 'e2e'"):
        prompt_set("e2")
