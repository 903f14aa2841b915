"""Everything that docs/fidelity.md names exists, and the page is what its data make of it."""

import ast
import re
from collections import Counter
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest

from allora_lab.cli import _parser
from allora_lab.experiments.claims import HEAD, PAGE, read_claims
from allora_lab.figures import FIGURES
from allora_lab.methods import METHODS

ROOT = Path(__file__).parent.parent
CLAIMS = read_claims()
BY_ID = pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)


@cache
def names_in(path):
    """Return the functions and classes that stand at the top of a file."""
    tree = ast.parse((ROOT / path).read_text())
    return {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}


def test_there_are_at_least_24_claims_of_allora_in_sections_that_stand_together():
    assert Counter(claim.paper for claim in CLAIMS)["ALLoRA"] >= 24
    sections = [key for key, _ in groupby(CLAIMS, key=lambda c: (c.paper, c.section))]
    assert len(set(sections)) == len(sections)


@BY_ID
def test_its_function_and_its_test_exist(claim):
    for place, folder in ((claim.function, "allora_lab/"), (claim.test, "tests/")):
        if place:
            path, name = place.split("::")
            assert path.startswith(folder)
            assert name in names_in(path)
    assert claim.function


@BY_ID
def test_its_notebook_exists(claim):
    assert not claim.notebook or (ROOT / claim.notebook).is_file()


@BY_ID
def test_its_command_runs_something_that_exists(claim):
    if not claim.command:
        return
    program, *arguments = claim.command.split()
    assert program == "allora-lab"
    options = _parser().parse_args(arguments)
    if options.command == "figure":
        assert options.name in FIGURES
    if options.command == "sweep":
        assert (ROOT / options.file).is_file()


@BY_ID
def test_its_words_fit_a_table(claim):
    assert "|" not in claim.claim + claim.where
    assert "\n" not in claim.claim + claim.where + claim.quote


def test_links_of_the_page_lead_somewhere():
    page = PAGE.read_text()
    headings = set(re.findall(r"^#### (.+)$", page, re.MULTILINE))
    for link in re.findall(r"\]\((?!http)([^)]+)\)", page):
        target = link.removeprefix("#")
        assert target in headings if link.startswith("#") else (PAGE.parent / link).is_file(), link


def test_what_the_head_names_exists():
    defined = {name for path in (ROOT / "allora_lab").rglob("*.py") for name in names_in(path)}
    tests = {path.name for path in (ROOT / "tests").rglob("*.py")}
    for token in re.findall(r"`([^`]+)`", HEAD.read_text()):
        if token.endswith(".py"):
            assert token in tests or (ROOT / "allora_lab" / token).is_file(), token
        elif "/" in token:
            assert (ROOT / token).exists(), token
        else:
            assert token in defined | METHODS.keys(), token
