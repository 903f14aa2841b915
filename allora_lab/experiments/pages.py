"""The generated parts of the documents: every table and measured number is written from the records.

A document marks such a part, on lines of their own, with

    <!-- generated: NAME -->
    <!-- /generated -->

and BLOCKS has the function that returns its Markdown.  `docs/fidelity.md` is generated as a whole.
`allora-lab pages` writes them all; `allora-lab pages --check` names those that are out of date.
"""

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

from allora_lab.checks import require_known
from allora_lab.experiments import benchmarks, results_text
from allora_lab.experiments.claims import fidelity_markdown, verdict_table
from allora_lab.experiments.headlines import headline_table
from allora_lab.experiments.tables import escape_table
from allora_lab.files import REPOSITORY, written_whole

BLOCKS: dict[str, Callable[[], str]] = {
    "verdicts": verdict_table,
    "escape": escape_table,
    "same-run-elsewhere": results_text.same_run_elsewhere,
    "clipping": results_text.clipping,
    "headlines": headline_table,
    "analysis": results_text.analysis_table,
    "planted-ranks": results_text.planted_ranks,
    "allocation": results_text.allocation,
    "sora-ranks": results_text.sora_ranks,
    "allocation-cost": benchmarks.allocation_cost,
    "commonsense": results_text.commonsense,
    "e2e": results_text.e2e,
    "step-cost": benchmarks.step_cost,
    "throughput": benchmarks.throughput_sentences,
    "masks": benchmarks.mask_sentences,
    "redraws": benchmarks.redraw_sentences,
    "scores": benchmarks.score_sentences,
    "binder": benchmarks.binder_sentences,
}
WHOLE: dict[str, Callable[[], str]] = {"docs/fidelity.md": fidelity_markdown}
MARK = re.compile(r"^[ \t]*<!--\s*(/?)\s*generated\b:?\s*(.*?)\s*-->[ \t]*\n?", re.MULTILINE)
WIDTH = 110  # of a generated paragraph; lines of a table are as long as they are


def page_paths(root: Path = REPOSITORY) -> list[Path]:
    """Return README and the pages of `docs/`.

    Raises
    ------
    FileNotFoundError
        Where there are none, as in an installed package.
    """
    readme = root / "README.md"
    if not readme.exists():
        raise FileNotFoundError(
            f"there are no documents in {root}: run this in a clone of allora_lab"
        )
    return [readme, *sorted((root / "docs").glob("*.md"))]


def marked_blocks(text: str, where: str) -> list[tuple[str, int, int]]:
    """Return the name of every marked block with the places where its content starts and ends.

    Raises
    ------
    ValueError
        For a name that BLOCKS does not have, or a marker without its partner.
    """
    found, opened = [], None
    for mark in MARK.finditer(text):
        line = text.count("\n", 0, mark.start()) + 1
        is_end, name = bool(mark[1]), mark[2]
        if is_end and opened is None:
            raise ValueError(f"{where}, line {line}: nothing is open here: delete this end marker")
        if not is_end and opened:
            break  # the one before is not closed
        if is_end and opened:
            found.append((*opened[:2], mark.start()))
            opened = None
            continue
        require_known(f"block in {where}, line {line}:", name, BLOCKS)
        opened = (name, mark.end(), line)
    if opened:
        raise ValueError(
            f"{where}, line {opened[2]}: the block {opened[0]!r} is not closed: "
            "add a line <!-- /generated --> below it"
        )
    return found


def regenerated(text: str, where: str) -> tuple[str, list[str]]:
    """Return a document with all its blocks made anew, and the names of those that changed.

    Raises
    ------
    ValueError, FileNotFoundError
        As `marked_blocks`, or as the function of a block.
    """
    parts, stale, at = [], [], 0
    for name, start, end in marked_blocks(text, where):
        content = laid_out(BLOCKS[name]())
        if content != text[start:end]:
            stale.append(name)
        parts += [text[at:start], content]
        at = end
    return "".join([*parts, text[at:]]), stale


def laid_out(markdown: str) -> str:
    """Return Markdown with its paragraphs wrapped at WIDTH, and a line's end behind it."""
    parts = markdown.strip("\n").split("\n\n")
    wrapped = [
        part if part.startswith("|") else textwrap.fill(part, WIDTH, break_long_words=False)
        for part in parts
    ]
    return "\n\n".join(wrapped) + "\n"


def outdated_pages(root: Path = REPOSITORY) -> dict[Path, tuple[str, list[str]]]:
    """Return every document that is out of date, with its new text and what changed in it.

    Raises
    ------
    ValueError, FileNotFoundError
        As `regenerated` and `page_paths`.
    """
    found = {}
    for path in page_paths(root):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(root).as_posix()
        if name in WHOLE:
            new = WHOLE[name]()
            stale = ["the whole page"] if new != text else []
        else:
            new, stale = regenerated(text, name)
        if stale:
            found[path] = new, stale
    return found


def write_pages(root: Path = REPOSITORY, *, only_check: bool = False) -> list[str]:
    """Write the documents that are out of date; return what changed, one `PAGE: BLOCK` each.

    All are made before the first is written.  With `only_check`, nothing is written.

    Raises
    ------
    ValueError, FileNotFoundError
        As `outdated_pages`.
    """
    outdated = outdated_pages(root)
    for path, (text, _) in outdated.items():
        if not only_check:
            with written_whole(path) as partial:
                partial.write_text(text, encoding="utf-8")
    return [
        f"{path.relative_to(root).as_posix()}: {block}"
        for path, (_, blocks) in outdated.items()
        for block in blocks
    ]
