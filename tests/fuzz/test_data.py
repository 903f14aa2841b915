"""Data files of a user's own: JSON lines, JSON, CSV and TSV, whole, altered and damaged."""

import csv
import io
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from allora_lab.data.datasets import load_dataset

from .outcome import altered, damaged, empty_folder, jsons, speaks_or_succeeds, texts

PROMPTS = [{"instruction": f"Add {n} and 1.", "input": "", "output": str(n + 1)} for n in range(30)]
LABELLED = [{"text": f"sentence number {n}", "label": n % 2} for n in range(30)]
SAME = 40 * [{"instruction": "Say yes.", "output": "yes"}]


def in_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def in_table(rows, delimiter=","):
    out = io.StringIO()
    writer = csv.DictWriter(out, ["text", "label"], delimiter=delimiter, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(row for row in rows if isinstance(row, dict))
    return out.getvalue().encode("utf-8", "replace")


WHOLE = st.sampled_from([PROMPTS, LABELLED])
FILES = (
    WHOLE.flatmap(altered).map(lambda rows: in_lines(rows if isinstance(rows, list) else [rows]))
    | WHOLE.flatmap(altered).map(lambda rows: json.dumps(rows).encode())
    | st.sampled_from([in_lines(PROMPTS), in_lines(LABELLED)]).flatmap(damaged)
    | st.lists(jsons, max_size=12).map(in_lines)
)


def load(name, content):
    with empty_folder() as folder:
        (folder / name).write_bytes(content)
        speaks_or_succeeds(lambda: load_dataset(name))


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.json"])
@given(content=FILES)
@example(content=in_lines(SAME))
@example(content=in_lines(PROMPTS[:9]))
@example(content=in_lines([{**row, "input": 3} for row in PROMPTS]))
@example(content=in_lines([{**row, "output": ""} for row in PROMPTS]))
@example(content=20_000 * b"[")
@example(content=20_000 * b'{"instruction":')
@example(content=b"")
@example(content="\ufeff".encode() + in_lines(PROMPTS))
def test_rows_of_json_are_read_or_refused_in_one_sentence(name, content):
    load(name, content)


cells = texts.filter(lambda text: "\ud800" not in text)
TABLES = (
    st.sampled_from([in_table(LABELLED), in_table(LABELLED, "\t")]).flatmap(damaged)
    | st.lists(st.fixed_dictionaries({"text": cells, "label": cells}), max_size=30).map(in_table)
    | st.lists(st.lists(cells, max_size=4).map(",".join), max_size=8).map(
        lambda lines: "\n".join(lines).encode("utf-8", "replace")
    )
)


@pytest.mark.parametrize("name", ["mine.csv", "mine.tsv"])
@given(content=TABLES)
@example(content=b"text,label\n")
@example(content=b'text,label\n"never closed,1\n')
@example(content=b"text,label\n" + 200_000 * b"a" + b",1\n")
def test_rows_of_a_table_are_read_or_refused_in_one_sentence(name, content):
    load(name, content)
