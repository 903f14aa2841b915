"""Every table and measured number of README and docs/ is what the records say."""

import re

import pytest

from allora_lab import cli
from allora_lab.experiments import pages
from allora_lab.files import REPOSITORY

MADE = {"one": lambda: "| a | b |\n| --- | --- |\n| 1 | 2 |", "two": lambda: "Three words here."}
TEXT = """# Title

<!-- generated: one -->
| a | b |
| --- | --- |
| 1 | 2 |
<!-- /generated -->

Between.

<!-- generated: two -->
Three words here.
<!-- /generated -->
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "BLOCKS", MADE)
    monkeypatch.setattr(pages, "WHOLE", {"docs/whole.md": lambda: "all of it\n"})
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(TEXT)
    (tmp_path / "docs" / "whole.md").write_text("all of it\n")
    return tmp_path


def test_no_page_of_this_repository_is_out_of_date():
    assert not pages.write_pages(only_check=True), "run allora-lab pages"


def test_every_block_is_in_some_page():
    texts = "".join(path.read_text() for path in pages.page_paths())
    for name in pages.BLOCKS:
        assert f"<!-- generated: {name} -->" in texts


def test_no_table_with_a_measured_number_is_typed_by_hand():
    """Outside the markers, no cell of README's or the results' tables has a decimal number."""
    for name in ("README.md", "docs/results.md"):
        text = (REPOSITORY / name).read_text()
        by_hand = re.sub(r"<!-- generated.*?<!-- /generated -->", "", text, flags=re.DOTALL)
        rows = [line for line in by_hand.splitlines() if line.startswith("|")]
        assert not [row for row in rows if re.search(r"\d\.\d", row)]


def test_a_number_edited_in_a_block_is_found_and_written_again(folder):
    assert pages.write_pages(folder) == []
    (folder / "README.md").write_text(TEXT.replace("| 1 | 2 |", "| 1 | 3 |"))
    assert pages.write_pages(folder, only_check=True) == ["README.md: one"]
    assert "| 1 | 3 |" in (folder / "README.md").read_text()
    assert pages.write_pages(folder) == ["README.md: one"]
    assert (folder / "README.md").read_text() == TEXT


def test_an_edited_page_that_is_generated_as_a_whole_is_found(folder):
    (folder / "docs" / "whole.md").write_text("all of this\n")
    assert pages.write_pages(folder) == ["docs/whole.md: the whole page"]
    assert (folder / "docs" / "whole.md").read_text() == "all of it\n"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (TEXT.replace("generated: two", "generated: tow"), "line 11.*did you mean 'two'"),
        (TEXT.replace("generated: one", "generated"), "line 3"),
        (TEXT.replace("generated: one", "generated: one two"), "line 3.*'one two'"),
        (TEXT.replace("<!-- generated: two", "  <!--generated: tow"), "line 11.*'tow'"),
        (TEXT.removesuffix("<!-- /generated -->\n"), "line 11.*'two' is not closed"),
        (TEXT.replace("<!-- /generated -->\n\nBetween", "Between"), "line 3.*'one' is not closed"),
        (TEXT.replace("<!-- generated: two -->\n", ""), "nothing is open"),
    ],
)
def test_a_marker_that_is_unknown_or_alone_is_one_sentence(folder, wrong, words):
    (folder / "README.md").write_text(wrong)
    (folder / "docs" / "whole.md").write_text("old\n")
    with pytest.raises(ValueError, match=words) as raised:
        pages.write_pages(folder)
    assert "\n" not in str(raised.value)
    assert (folder / "docs" / "whole.md").read_text() == "old\n"


def test_without_documents_it_says_where_to_run_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="clone"):
        pages.write_pages(tmp_path)


def test_the_command_names_what_is_out_of_date_and_exits_with_1(monkeypatch, capsys):
    monkeypatch.setattr(pages, "WHOLE", {})
    monkeypatch.setattr(pages, "BLOCKS", dict.fromkeys(pages.BLOCKS, lambda: "Other words."))
    monkeypatch.setattr(pages, "page_paths", lambda root: [root / "README.md"])
    before = (REPOSITORY / "README.md").read_text()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["pages", "--check"])
    assert stopped.value.code == 1
    assert "README.md: verdicts" in capsys.readouterr().out
    assert (REPOSITORY / "README.md").read_text() == before
