"""Execute the notebooks in place and normalise what is stored, so that a re-run is no change.

Timings, kernel metadata and widget state go, and the cells are numbered from 1; outputs stay, for
they are read where notebooks are hosted, and nbval compares them; so do pictures' words.
"""

import itertools
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Drop warnings, and join texts that were printed in one go but arrived in pieces."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        is_text = output.output_type == "stream"
        if is_text and output.name == "stderr":
            continue
        if is_text and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Drop what differs between two equal executions; number the cells."""
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    runs = itertools.count(1)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags", "jupyter")}
        if cell.cell_type == "code":
            cell.execution_count = next(runs)
            cell.outputs = joined(cell.outputs)
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = cell.execution_count
                if "metadata" in output:
                    output.metadata = {k: v for k, v in output.metadata.items() if k == "image/png"}
                if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                    view = output.data["application/vnd.jupyter.widget-view+json"]
                    view["model_id"] = "0" * 32


def execute(path: Path) -> None:
    """Run one notebook from its folder and write it back."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(HERE)}}).execute()
    normalise(notebook)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)
    print(f"executed {path.name} ({path.stat().st_size / 1024:.0f} kB)")


if __name__ == "__main__":
    for path in [Path(p) for p in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        execute(path)
