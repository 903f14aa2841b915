"""What a page shows where a notebook would show a widget: a question to read, or a note.

Widgets need a kernel.  On the static site a question keeps its choices, with the feedback on each
folded below; a panel becomes a note, and what the notebook stored of it stands further down.
"""

import ast
import json
import re
from html import escape
from pathlib import Path
from typing import Any

from allora_lab.panels.by_hand import ByHand
from allora_lab.panels.number import NumberQuestion
from allora_lab.panels.question import Question

WIDGET = "application/vnd.jupyter.widget-view+json"
KINDS = {"Question": Question, "NumberQuestion": NumberQuestion, "ByHand": ByHand}
RUN = "<a href='../docs/site/running.html'>run the notebook</a>"
NOTE = (
    f"This is an interactive panel: {RUN} to use its controls. Its picture is shown further down."
)


class Divided(ast.NodeTransformer):
    """Turns a fraction of two numbers, such as 8 / 24, into one number."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """Return the quotient where both sides are numbers, else the node as it is."""
        match node:
            case ast.BinOp(ast.Constant(top), ast.Div(), ast.Constant(bottom)):
                if isinstance(top, int | float) and isinstance(bottom, int | float) and bottom:
                    return ast.Constant(top / bottom)
        return node


def literal(node: ast.expr) -> Any:
    """Return the value of an argument without running it.

    Raises
    ------
    ValueError
        If it is anything else than text, numbers, and lists and dictionaries of them.
    """
    words = ast.unparse(node)
    try:
        return ast.literal_eval(Divided().visit(node))
    except (ValueError, TypeError):
        raise ValueError(
            f"a question takes literals only: write out the value of {words}"
        ) from None


def question_in(source: str) -> Question | NumberQuestion | ByHand | None:
    """Return the question that a cell makes, or None; see `literal` for what is refused."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in KINDS:
            named = {keyword.arg or "**": literal(keyword.value) for keyword in node.keywords}
            return KINDS[node.func.id](*map(literal, node.args), **named)
    return None


def folded(title: str, lines: list[str]) -> str:
    """Return lines that show when they are asked for."""
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f"<details><summary>{title}</summary><ul>{items}</ul></details>"


def as_text(question: Question | NumberQuestion | ByHand) -> str:
    """Return a question as a page can show it."""
    prompt = question.children[0].value
    if isinstance(question, ByHand):
        names = [box.description for box in question.inputs.values()]
        return f"<p>{prompt} To: {escape('; '.join(names))}. To check: {RUN}.</p>"
    if isinstance(question, NumberQuestion):
        said = [f"{number:g}: {escape(hint)}" for number, hint in question._mistakes.items()]
        return f"<p>{prompt}</p>" + folded("If you have one of these numbers", said)
    choices = "".join(f"<li>{escape(choice)}</li>" for choice in question._answers)
    said = [f"<b>{escape(given)}</b>: {escape(hint)}" for given, hint in question._answers.items()]
    return f"<p>{prompt}</p><ul>{choices}</ul>" + folded("Show the feedback", said)


def picture(data: str, words: str) -> str:
    """Return a stored picture with its alternative text, which MyST-NB would leave out."""
    return (
        f'<img alt="{escape(words)}" src="data:image/png;base64,{escape("".join(data.split()))}">'
    )


def with_formulas(html: str) -> str:
    """Return a stored table with its $formulas$ in the delimiters that the pages' KaTeX looks for."""
    return re.sub(r"\$([^$\n]+)\$", r'<span class="math">\\(\1\\)</span>', html)


def without_widgets(text: str) -> str:
    """Return a notebook's text with what a page can show in place of each widget."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            if WIDGET in output.get("data", {}):
                question = question_in("".join(cell["source"]))
                words = as_text(question) if question else f"<p>{NOTE}</p>"
                if question:  # its source has the answer
                    cell["metadata"]["tags"] = ["remove-input"]
                output["data"] = {"text/html": f"<div class='no-kernel'>{words}</div>"}
            elif "text/html" in output.get("data", {}):
                html = "".join(output["data"]["text/html"])
                output["data"]["text/html"] = with_formulas(html)
            if words := output.get("metadata", {}).get("image/png", {}).get("alt"):
                output["data"] = {"text/html": picture(output["data"]["image/png"], words)}
    return json.dumps(notebook)


def without_folders(text: str, page: Path) -> str:
    """Return a page's text in which a link to a folder of the repository is its name alone."""

    def name_or_link(link: re.Match[str]) -> str:
        return link[1] if (page.parent / link[2].strip("/")).is_dir() else link[0]

    return re.sub(r"\[([^]\n]+)\]\((\.\./[^)#\s]+)\)", name_or_link, text)


def on_source_read(app: object, docname: str, source: list[str]) -> None:
    """Change a page's text before it is parsed."""
    page = Path(app.env.doc2path(docname))
    text = without_folders(source[0], page)
    source[0] = without_widgets(text) if page.suffix == ".ipynb" else text


def on_docstring(_app: object, *about: object) -> None:
    """Let |x| in a docstring be an absolute value; to reStructuredText it is a substitution."""
    lines = about[-1]
    for number, line in enumerate(lines):
        parts = line.split("``")  # every second part is a literal
        parts[::2] = [part.replace("|", "\\|") for part in parts[::2]]
        lines[number] = "``".join(parts)


def setup(app: object) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("autodoc-process-docstring", on_docstring)
    app.connect("source-read", on_source_read)
    return {"parallel_read_safe": True}
