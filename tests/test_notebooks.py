"""Notebooks are clean, small and free of logic; nbval executes them (see the Makefile)."""

import ast
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

from allora_lab.panels.by_hand import ByHand
from allora_lab.panels.number import NumberQuestion
from allora_lab.panels.question import Question

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text())


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_every_notebook_is_run_by_make_test():
    makefile = (FOLDER.parent / "Makefile").read_text()
    named = set(re.findall(r"notebooks/(\w+)\.ipynb", makefile))
    assert named == {path.stem for path in NOTEBOOKS}


def test_the_extra_notebooks_brings_what_they_import(notebook):
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["notebooks"]]
    brought = {re.match(r"[\w-]+", line).group().lower() for line in wanted}
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).partition(".")[0]
        for cell in code_cells(notebook)
        for node in ast.walk(ast.parse("".join(cell["source"])))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    ours = {"allora_lab", "IPython"}  # JupyterLab brings the latter
    assert imported - ours - sys.stdlib_module_names <= brought


def test_cells_are_short_and_define_nothing(notebook):
    for cell in code_cells(notebook):
        source = "".join(cell["source"])
        assert len([line for line in source.splitlines() if line.strip()]) <= 15
        assert not re.search(r"^\s*(def|class) ", source, re.MULTILINE)


def test_no_cell_moves_a_panel_on_the_page_away_from_what_the_text_says(notebook):
    sources = ["".join(cell["source"]) for cell in code_cells(notebook)]
    shown = [source.splitlines()[-1] for source in sources]
    for name in filter(str.isidentifier, shown):
        moves = rf"\b{name}(\.panel)?\.controls\[.+\]\.value\b[^=]*=[^=]|still\({name}\b"
        for source in sources:
            assert not re.search(moves, source), source


def test_what_stands_after_a_plus_minus_is_explained(notebook):
    outputs = json.dumps([cell["outputs"] for cell in code_cells(notebook)], ensure_ascii=False)
    said = [s for text in texts(notebook) for s in re.split(r"(?<=[.]) ", text) if "±" in s]
    if "±" in outputs:
        assert any(re.search("interval|deviation|error|margin|width", s) for s in said)


def test_no_table_has_a_letter_as_a_raw_formula(notebook):
    for text in texts(notebook):
        for row in re.findall(r"^\|.*\|$", text, re.MULTILINE):
            assert not re.search(r"\$[^$]*\\eta", row), f"write η, which every page shows: {row}"


def test_what_is_stored_is_executed_and_normalised(notebook):
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
    for number, cell in enumerate(code_cells(notebook), start=1):
        assert cell["execution_count"] == number
        assert all(output["output_type"] != "error" for output in cell["outputs"])
    assert any(cell["outputs"] for cell in code_cells(notebook))


def test_every_stored_picture_is_told_in_words(notebook):
    for cell in code_cells(notebook):
        for output in cell["outputs"]:
            if "image/png" in output.get("data", {}):
                assert len(output["metadata"]["image/png"]["alt"]) > 60


def test_notebooks_stay_small(notebook):
    assert len(json.dumps(notebook)) < 400_000


def test_links_lead_somewhere(notebook):
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            for target in re.findall(r"\]\((?!http)([^)#]+)", "".join(cell["source"])):
                assert (FOLDER / target).exists(), target


# -- a notebook is a lesson ------------------------------------------------------------------
# Start here is a five-minute page: it asks one question and shows the map, so it has neither
# exercises nor a section that weighs the paper (its measured sentences do that).
LESSONS = [path for path in NOTEBOOKS if not path.stem.startswith("00")]
WIDGETS = ("Question", "NumberQuestion", "ByHand")
SOLUTION = r"<details><summary>Solution</summary>\n\n.+?\n\n</details>"


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def lesson(request):
    return json.loads(request.param.read_text())


def text_of(cell):
    return "".join(cell["source"])


def texts(notebook):
    return [text_of(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]


def asked(cell):
    """Return what a cell's question was made with, or None: its name, prompt, right and hints."""
    for node in ast.walk(ast.parse(text_of(cell))) if cell["cell_type"] == "code" else ():
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in WIDGETS:
            names = {"Question": Question, "NumberQuestion": NumberQuestion, "ByHand": ByHand}
            return node.func.id, eval(ast.unparse(node), names)
    return None


def sentences(text):
    return re.findall(r"[^.?!]+(?:[.?!](?!\s|$)[^.?!]*)*[.?!](?=\s|$)", text)


def minutes(notebook):
    return int(re.search(r"^\*(\d+) minutes\. ", texts(notebook)[0], re.MULTILINE).group(1))


def test_the_first_cell_says_what_it_takes(notebook):
    assert re.match(r"# .+\n\n\*\d+ minutes\. You need: .+\.\*\n", texts(notebook)[0])


def test_a_lesson_names_its_goal_first(notebook):
    assert any("**You will be able to**" in text for text in texts(notebook)[:2])


def test_a_cell_has_one_heading_and_begins_with_it(notebook):
    for text in texts(notebook):
        assert not re.search(r"\n##? ", text), text[:80]


def test_a_prediction_is_asked_for_before_any_picture(notebook):
    cells = notebook["cells"]
    first = next(i for i, cell in enumerate(cells) if asked(cell))
    assert any(text_of(cell).startswith("## Predict first") for cell in cells[first - 2 : first])
    shown = [i for i, cell in enumerate(cells) if "image/png" in json.dumps(cell)]
    assert all(first < i for i in shown)


def test_a_lesson_asks_before_it_computes(lesson):
    assert asked(code_cells(lesson)[0])


def test_a_lesson_weighs_the_paper(lesson):
    assert sum(text.startswith("## What the paper says") for text in texts(lesson)) == 1


def test_a_lesson_has_three_exercises_each_with_a_folded_solution(lesson):
    cells = lesson["cells"]
    start = next(i for i, c in enumerate(cells) if text_of(c).startswith("## Try it yourself"))
    for number in (1, 2, 3):
        question, solution = cells[start + 2 * number - 1 : start + 2 * number + 1]
        name, made = asked(question)
        prompt = f"Give out {made.n}" if name == "ByHand" else made.children[0].value
        assert prompt.startswith((f"<b>{number}. ", "Give out")), prompt
        assert re.search(SOLUTION, text_of(solution), re.DOTALL), prompt


def test_a_lesson_has_an_exercise_that_is_not_multiple_choice(lesson):
    assert any((asked(cell) or [""])[0] in WIDGETS[1:] for cell in code_cells(lesson))


def test_hints_differ_and_do_not_tell_the_answer(notebook):
    for name, made in filter(None, map(asked, notebook["cells"])):
        if name == "ByHand":
            continue
        answers = made._answers if name == "Question" else {**made._mistakes, "": made._right}
        assert len(set(answers.values())) == len(answers) >= 3
        assert all(len(hint) > 20 for hint in answers.values())
        right = made._right if name == "Question" else f"{made.answer:,g}"
        hints = [hint for given, hint in answers.items() if given not in (right, "")]
        assert not any(re.search(rf"(?<![\w.]){re.escape(right)}(?![\w.]|\.\d)", h) for h in hints)


def test_all_that_is_folded_is_a_solution(notebook):
    for text in texts(notebook):
        assert len(re.findall("<details>", text)) == len(re.findall(SOLUTION, text, re.DOTALL))


def intervals(text):
    """Return each `mean [low, high]` of a text, where `points` may stand after the mean."""
    number = r"([+-]?\d+(?:\.\d+)?)"
    pattern = rf"{number}(?: points)? \[{number}, {number}\]"
    found = re.findall(pattern, " ".join(text.replace("−", "-").split()))
    return {tuple(map(float, numbers)) for numbers in found}


def test_an_interval_in_the_words_is_one_that_was_printed(notebook):
    outputs = [output for cell in code_cells(notebook) for output in cell["outputs"]]
    printed = intervals(" ".join("".join(output.get("text", "")) for output in outputs))
    printed |= {(-mean, -high, -low) for mean, low, high in printed}  # the other way round
    assert intervals(" ".join(texts(notebook))) <= printed


def test_the_take_away_is_two_sentences(notebook):
    said = re.findall(r"^\*\*Take away\.\*\* (.+)$", "\n".join(texts(notebook)), re.MULTILINE)
    assert len(said) == 1
    assert len(sentences(said[0])) == 2, sentences(said[0])


@pytest.mark.parametrize("number", range(len(NOTEBOOKS)))
def test_each_notebook_leads_to_the_next(number):
    last = texts(json.loads(NOTEBOOKS[number].read_text()))[-1]
    after = NOTEBOOKS[(number + 1) % len(NOTEBOOKS)].name
    assert re.search(rf"\*\*Next:\*\* \[[^]]+\]\({after}\)", last)


def test_the_table_of_lessons_has_all_of_them_with_their_times_and_total():
    page = "\n".join(texts(json.loads(NOTEBOOKS[0].read_text())))
    rows = re.findall(r"^\| \[(\d\d) .+\]\((.+)\) \|.+\| (\d+) min \|$", page, re.MULTILINE)
    times = {path.name: minutes(json.loads(path.read_text())) for path in LESSONS}
    assert {name: int(time) for _, name, time in rows} == times
    hours, rest = divmod(sum(times.values()), 60)
    assert f"All ten take {hours} hours {rest} minutes" in page
    afternoon = re.search(r"An afternoon \((\d+) minutes\): ([\d, and]+)\.", page)
    chosen = re.findall(r"\d\d", afternoon.group(2))
    assert sum(int(time) for number, _, time in rows if number in chosen) == int(afternoon.group(1))


def test_the_source_of_a_question_is_folded_for_it_has_the_answer(notebook):
    for cell in notebook["cells"]:
        if asked(cell):
            assert cell["metadata"] == {"jupyter": {"source_hidden": True}}
