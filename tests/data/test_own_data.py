"""Data of the user's own, in every form that is read, or the line that is at fault."""

import csv
import gzip
import json

import datasets
import pytest

from allora_lab.cli import main
from allora_lab.config import RunConfig
from allora_lab.data.datasets import load_dataset, prompt_set
from allora_lab.experiments.records import read_record
from allora_lab.experiments.runner import run
from allora_lab.files import sha256_of

ROWS = [
    {"text": f"film {i}, so {'good' if i % 2 else 'bad'}", "label": ["no", "yes"][i % 2]}
    for i in range(48)
]


def write(path, rows=ROWS):
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(
                stream, [*rows[0]], delimiter="\t" if path.suffix == ".tsv" else ","
            )
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    else:
        path.write_text(json.dumps(rows), "utf-8")
    return path


def texts_of(dataset):
    return [set(getattr(dataset, name).texts) for name in ("train", "dev", "test")]


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl"])
def test_labelled_sentences_are_read_from_every_kind_of_file_into_the_same_splits(tmp_path, ending):
    path = write(tmp_path / f"mine.{ending}")
    data = load_dataset(str(path))
    assert prompt_set(str(path)) is None
    assert (data.key, data.label_names, data.revision) == (
        path.name,
        ("no", "yes"),
        sha256_of(path),
    )
    train, dev, test = texts_of(data)
    assert [*map(len, (train, dev, test))] == [40, 4, 4]
    assert train | dev | test == {row["text"] for row in ROWS}
    label_of = {row["text"]: row["label"] for row in ROWS}
    for split in (data.train, data.dev, data.test):
        assert [data.label_names[i] for i in split.labels] == [label_of[t] for t in split.texts]
    first, second = (load_dataset(str(write(tmp_path / n))) for n in ("a.csv", "b.jsonl"))
    assert texts_of(first) == texts_of(second) == [train, dev, test]


def test_what_is_held_out_and_left_out_is_said(tmp_path):
    twice = [*ROWS, ROWS[0], {**ROWS[1], "label": "no"}]
    held, *rest = load_dataset(str(write(tmp_path / "mine.csv", twice))).notes
    assert "50 rows: 40 train, 4 dev, 4 test" in held
    assert "SHA-256" in held
    said = " ".join(rest)
    assert "2 labels: no, yes" in said
    assert "2 rows" in said
    assert "more than one label, of which the first counts: 1" in said


def test_labels_that_are_whole_numbers_keep_their_order(tmp_path):
    rows = [{**row, "label": i % 12} for i, row in enumerate(ROWS)]
    names = load_dataset(str(write(tmp_path / "mine.jsonl", rows))).label_names
    assert names == tuple(map(str, range(12)))
    assert load_dataset(str(write(tmp_path / "mine.csv", rows))).label_names == names


def test_an_excel_file_with_a_byte_order_mark_and_a_line_break_in_a_text_is_read(tmp_path):
    path = write(tmp_path / "mine.csv", [*ROWS, {"text": 'two\nlines, "quoted"', "label": "yes"}])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert 'two\nlines, "quoted"' in set.union(*texts_of(load_dataset(str(path))))


def test_a_line_separator_inside_a_json_string_ends_no_line(tmp_path):
    rows = [{**row, "text": f"{row['text']}\u2028and\x85more"} for row in ROWS]
    assert sum(map(len, texts_of(load_dataset(str(write(tmp_path / "mine.jsonl", rows)))))) == 48


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ({"train.csv": 40, "validation.csv": 4, "test.csv": 4}, [40, 4, 4]),
        ({"train.jsonl": 40, "test.csv": 8}, [36, 4, 8]),
        ({"train.tsv": 40, "dev.json": 8}, [36, 8, 4]),
        ({"train.csv": 48}, [40, 4, 4]),
    ],
)
def test_a_folder_keeps_its_splits_and_those_it_lacks_are_held_out(tmp_path, given, sizes):
    start = 0
    for name, count in given.items():
        write(tmp_path / name, ROWS[start : start + count])
        start += count
    data = load_dataset(f"{tmp_path}/")
    assert [*map(len, texts_of(data))] == sizes
    assert ("held out" in data.notes[0]) == (len(given) < 3)
    if "test.csv" in given:
        assert texts_of(data)[2] == {row["text"] for row in ROWS[48 - sizes[2] :]}


@pytest.mark.parametrize("has_splits", [True, False])
def test_a_folder_of_the_library_datasets_keeps_the_order_of_its_label_names(tmp_path, has_splits):
    kind = datasets.ClassLabel(names=["yes", "no"])
    saved = datasets.Dataset.from_list(ROWS).cast_column("label", kind)
    if has_splits:
        parts = {"train": range(40), "validation": range(40, 44), "test": range(44, 48)}
        saved = datasets.DatasetDict({name: saved.select(rows) for name, rows in parts.items()})
    saved.save_to_disk(str(tmp_path / "saved"))
    data = load_dataset(str(tmp_path / "saved"))
    assert data.label_names == ("yes", "no")
    assert [*map(len, texts_of(data))] == [40, 4, 4]
    label_of = {row["text"]: row["label"] for row in ROWS}
    assert [data.label_names[i] for i in data.test.labels] == [label_of[t] for t in data.test.texts]


def test_a_damaged_folder_of_the_library_datasets_is_named(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    for path in (tmp_path / "saved").glob("*.arrow"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="saved is no folder"):
        load_dataset(str(tmp_path / "saved"))


BAD = {
    "no label column": ("mine.csv", "text,stars\na,1\n", "line 2 .* has text, stars"),
    "no header": ("mine.csv", "a film,pos\nanother,neg\n", "line 1 .* must name the columns"),
    "a column twice": ("mine.csv", "text,label,text\n", "each once"),
    "semicolons": ("mine.csv", "text;label\na;1\n", "line 1 .* must name the columns"),
    "a comma unquoted": ("mine.csv", "text,label\nx,1\na, b,1\n", "line 3 .* has 3 columns"),
    "a quote open": ("mine.csv", 'text,label\nx,1\n"a,1\nb,1\n', "line 3 .* is not CSV"),
    "a label missing": ("mine.csv", "text,label\nx,1\ny,\n", "line 3 .* label"),
    "an empty text": ("mine.csv", "text,label\nx,1\n ,0\n", "line 3 .* empty text"),
    "no row": ("mine.csv", "text,label\n", "has no row"),
    "nothing": ("mine.csv", "", "has no row"),
    "Latin-1": ("mine.csv", "text,label\n\xe9,1\n", "UTF-8"),
    "a label of a wrong type": ("m.jsonl", '{"text":"a","label":1.5}', "line 1 .* label"),
    "a text of a wrong type": ("m.jsonl", '{"text":1,"label":1}', "line 1 .* 'text'"),
    "a row without label": ("m.jsonl", '{"text":"a","label":1}\n\n{"text":"a"}', "line 3 .* label"),
    "no object": ("m.jsonl", '{"text":"a","label":1}\n[1]', "line 2 .* JSON object"),
    "another form": ("m.jsonl", '{"prompt":"a"}', "line 1 .* has prompt: each row needs text"),
    "cut JSON": ("m.jsonl", '{"text":"a","label":1}\n{"text', "line 2 .* is not JSON"),
    "cut list": ("m.json", '[{"text":"a","label":1},\n{"text', "line 2 .* is not JSON"),
    "deep nesting": ("m.jsonl", '{"text":"a","label":1}\n' + '{"a":' * 9**5, "line 2 .* nested"),
    "a huge number": ("m.jsonl", '{"text":"a","label":' + "9" * 5000 + "}", "line 1 .* not JSON"),
    "half a character": ("m.jsonl", '{"text":"\\ud800","label":1}', "line 1 .* surrogate"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_file_is_refused_with_its_line(tmp_path, case):
    name, text, message = BAD[case]
    path = tmp_path / name
    path.write_text(text, "latin-1")
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_label_too_few_rows_and_exchanged_columns_are_refused(tmp_path):
    def load(rows):
        return load_dataset(str(write(tmp_path / "mine.csv", rows)))

    with pytest.raises(ValueError, match=r"every row of .* has the label 'no'"):
        load([{**row, "label": "no"} for row in ROWS])
    with pytest.raises(ValueError, match="has 9 rows that differ: it takes 10"):
        load(ROWS[:9])
    with pytest.raises(ValueError, match="not exchanged"):
        load([{"text": row["label"], "label": row["text"]} for row in ROWS])


def test_a_folder_that_cannot_be_read_says_what_it_needs(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no training rows.*train\.csv"):
        load_dataset(str(tmp_path))
    for name in ("train.csv", "train.jsonl"):
        write(tmp_path / name)
    with pytest.raises(ValueError, match="keep one file of each split"):
        load_dataset(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no file"):
        load_dataset(str(tmp_path / "gone.csv"))


def test_a_training_split_that_loses_every_row_to_the_others_is_refused(tmp_path):
    for name in ("train.csv", "test.csv"):
        write(tmp_path / name)
    with pytest.raises(ValueError, match="no row for train"):
        load_dataset(str(tmp_path))


def test_a_label_without_a_training_row_is_said(tmp_path):
    write(tmp_path / "train.csv", ROWS)
    write(tmp_path / "test.csv", [{"text": "odd", "label": "perhaps"}])
    data = load_dataset(str(tmp_path))
    assert data.label_names == ("no", "perhaps", "yes")
    assert any("without a training row: perhaps" in note for note in data.notes)


@pytest.mark.parametrize("name", ["mine.csv.gz", "mine.jsonl.gz"])
def test_a_gzipped_file_is_read_and_a_small_one_that_unpacks_to_much_is_not(
    tmp_path, monkeypatch, name
):
    plain = write(tmp_path / name.removesuffix(".gz"))
    (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
    assert texts_of(load_dataset(str(tmp_path / name))) == texts_of(load_dataset(str(plain)))
    monkeypatch.setattr("allora_lab.data.archive.LARGEST", 100)
    with pytest.raises(ValueError, match="unpacks to more"):
        load_dataset(str(tmp_path / name))


@pytest.mark.parametrize("asked", ["mine.csv", "folder"])
def test_a_run_on_ones_own_rows_says_what_it_holds_out_and_records_the_labels(
    tmp_path, capsys, asked, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    rows = [{**row, "label": "abc"[i % 3]} for i, row in enumerate(ROWS)]
    for name in ("mine.csv", "folder/train.csv"):
        write(tmp_path / name, rows)
    words = ["run", "--dataset", asked, "--method", "lora", "--steps", "2", "--batch-size", "64"]
    assert main([*words, "--max-length", "6"]) == 0
    said = capsys.readouterr().out
    for word in ("40 train, 4 dev, 4 test", "labels: a, b, c", "are cut", "batch_size 64"):
        assert word in said
    (path,) = (tmp_path / "out").glob("*.json")
    record = read_record(path)
    assert record.label_names == ["a", "b", "c"]
    assert asked in path.name


def test_a_checkpoint_of_other_data_says_that_the_data_changed(tmp_path):
    config = RunConfig(method="lora", dataset=str(write(tmp_path / "mine.csv")), steps=4)
    checkpoint = tmp_path / "run.safetensors"

    def go(**more):
        return run(config, device="cpu", checkpoint=checkpoint, **more)

    assert go(should_stop=lambda: True) is None
    write(tmp_path / "mine.csv", ROWS[:-1])
    with pytest.raises(ValueError, match="the data changed") as caught:
        go()
    assert str(checkpoint) in str(caught.value)
    write(tmp_path / "mine.csv")
    assert go() is not None
