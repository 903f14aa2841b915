"""TOML files of a run and of sweeps: any text, any value of any setting."""

import math
from dataclasses import fields

from hypothesis import example, given, settings
from hypothesis import strategies as st

from allora_lab.cli import _parser
from allora_lab.config import RunConfig
from allora_lab.methods import METHODS
from allora_lab.run_options import config_of

from .outcome import NASTY_TEXT, command_ends_well, damaged, empty_folder, speaks_or_succeeds

SETTINGS = [field.name for field in fields(RunConfig)]
WORDS = [word for word in NASTY_TEXT if "\ud800" not in word]
scalars = st.one_of(
    st.booleans(), st.integers(), st.floats(), st.sampled_from([*WORDS, *METHODS]), st.none()
)
names = st.sampled_from([*SETTINGS, "epochs", "set", "vary", "name", "base", "x", ""])
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)


def written(value):
    """Return a value as TOML writes it; None is written as it is, which TOML refuses."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        letters = (f"\\U{ord(c):08x}" if not c.isprintable() or c in '"\\' else c for c in value)
        return f'"{"".join(letters)}"'
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(k)} = {written(v)}" for k, v in value.items()) + "}"
    return repr(value)


def lines(table):
    return "".join(f"{written(key)} = {written(value)}\n" for key, value in table.items())


tables = st.dictionaries(names, anything, max_size=4)


@settings(max_examples=4 * settings().max_examples)
@given(table=tables, method=st.sampled_from(list(METHODS)))
@example(table={"r": 99999999999999999999}, method="lora")
@example(table={"lr": 10**400}, method="lora")
@example(table={"target_modules": []}, method="lora")
def test_a_table_of_settings_is_a_configuration_or_one_sentence(table, method):
    with empty_folder() as folder:
        (folder / "run.toml").write_text(lines({"method": method, **table}), encoding="utf-8")
        options = _parser().read(["run", "--config", "run.toml"])
        speaks_or_succeeds(lambda: config_of(options))


GOOD = b'method = "lora"\nsteps = 3\nlr = 0.001\ntarget_modules = ["query"]\n'


@given(content=damaged(GOOD))
@example(content=b"steps = " + 100_000 * b"[")
@example(content=b"steps = " + 10_000 * b"9")
@example(content=b"\xff\xfe")
def test_a_damaged_file_of_settings_is_refused_in_one_sentence(content):
    with empty_folder() as folder:
        (folder / "run.toml").write_bytes(content)
        options = _parser().read(["run", "--config", "run.toml"])
        speaks_or_succeeds(lambda: config_of(options))


@st.composite
def sweeps(draw):
    """Return the text of a sweep: tables where they belong, each with anything in it."""
    some = st.dictionaries(st.sampled_from(SETTINGS), scalars, max_size=2)
    vary = st.dictionaries(st.sampled_from(SETTINGS), st.lists(scalars, max_size=3), max_size=2)
    text = f"name = {written(draw(st.sampled_from(['mine', '../x', '', 'a b', 3])))}\n"
    text += "[base]\n" + lines(draw(some))
    for _ in range(draw(st.integers(0, 2))):
        text += f"[[block]]\nset = {written({'method': 'lora', **draw(some)})}\n"
        text += f"vary = {written(draw(vary | anything))}\n"
    if draw(st.booleans()):
        text += "[[compare]]\n" + lines(
            {"name": draw(scalars), "ours": draw(some), "theirs": draw(some), **draw(tables)}
        )
    return text.replace("None", draw(st.sampled_from(["None", "1", '"lora"'])))


SWEEP = b"[[block]]\nset = { method = 'lora' }\nvary = { seed = [0, 1] }\n"


@settings(max_examples=2 * settings().max_examples)
@given(content=sweeps().map(lambda text: text.encode("utf-8", "replace")) | damaged(SWEEP))
@example(content=b"[[block]]\nset = { method = 'lora' }\nvary = { seed = [] }\n")
@example(content=b"[[block]]\nset = { method = 'lora', r = 99999999999999999999 }\n")
def test_a_sweep_file_is_read_or_refused_in_one_sentence(content):
    with empty_folder() as folder:
        (folder / "mine.toml").write_bytes(content)
        command_ends_well(["sweep", "mine.toml", "--dry-run"], folder / "results")
        command_ends_well(["status", "mine.toml"], folder / "results")
