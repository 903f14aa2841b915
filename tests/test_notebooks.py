"""Notebooks are clean, small and free of logic; nbval executes them (see the Makefile)."""

import json
import re
from pathlib import Path

import pytest

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


def test_cells_are_short_and_define_nothing(notebook):
    for cell in code_cells(notebook):
        source = "".join(cell["source"])
        assert len([line for line in source.splitlines() if line.strip()]) <= 15
        assert not re.search(r"^\s*(def|class) ", source, re.MULTILINE)


def test_what_is_stored_is_executed_and_normalised(notebook):
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
    for number, cell in enumerate(code_cells(notebook), start=1):
        assert cell["execution_count"] == number
        assert all(output["output_type"] != "error" for output in cell["outputs"])
    assert any(cell["outputs"] for cell in code_cells(notebook))


def test_notebooks_stay_small(notebook):
    assert len(json.dumps(notebook)) < 400_000


def test_links_lead_somewhere(notebook):
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            for target in re.findall(r"\]\((?!http)([^)#]+)", "".join(cell["source"])):
                assert (FOLDER / target).exists(), target
