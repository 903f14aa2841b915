"""What every input must lead to: success, or one sentence and exit status 2, within 30 seconds."""

import contextlib
import copy
import io
import os
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from allora_lab.checks import SPOKEN, is_for_the_user
from allora_lab.cli import main

SECONDS = 30
LONGEST = 2000  # letters of a sentence

# Values that have broken something somewhere.
NASTY_TEXT = [
    "",
    " ",
    "0",
    "-0.0",
    "-1",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "9" * 30,
    "9" * 5000,
    "all",
]
NASTY_TEXT += ["None", "true", "[]", "{}", "\0", "a\nb", "\u2028", "\ud800", "٣", "é", "../x", "/"]
NASTY_TEXT += [".", "(.*)*x$", "(q", "query,value", "-", "--", "a" * 5000, "minilm", "lora", "1_0"]
NASTY_TEXT += ["<img src=x onerror=alert(1)>", "C:\\x", "a/b", "a/b/c"]
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 10**18, 10**40, 2**63, -0.0])
texts = st.sampled_from(NASTY_TEXT) | st.text(max_size=20)
jsons = st.recursive(
    st.none() | st.booleans() | NUMBERS | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


class TooSlowError(BaseException):
    """An example took longer than SECONDS; no handler of errors may catch it."""


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """Interrupt what computes for longer than SECONDS; waiting for a busy machine is not counted."""

    def stop(_number: int, _frame: object) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def empty_folder() -> Iterator[Path]:
    """Work in a new folder that holds the results too."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with mock.patch.dict(os.environ, {"ALLORA_LAB_RESULTS": str(folder / "results")}):
            os.chdir(folder)
            try:
                yield folder
            finally:
                os.chdir(before)


def require_sentence(text: str) -> None:
    """Fail unless a text is one sentence of readable length."""
    assert text.strip()
    assert len(text.strip().splitlines()) == 1, text
    assert len(text) < LONGEST, len(text)
    assert "Traceback" not in text


def speaks_or_succeeds(call: Callable[[], Any]) -> Any:
    """Call; let through an error that speaks to the user, in one sentence, and no other."""
    try:
        with time_limit(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call()
    except SPOKEN as error:
        if not is_for_the_user(error):
            raise
        require_sentence(" ".join(str(error).split()))
        return None


def command_ends_well(words: list[str], out: Path | None = None) -> int:
    """Run a command; a refusal is one sentence on stderr and leaves no file in `out`."""
    said, printed = io.StringIO(), io.StringIO()
    with (
        time_limit(),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(printed),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            status = main(words)
        except SystemExit as left:  # the parser's
            status = left.code
    assert status in (0, None, 2), said.getvalue()
    if status == 2:
        shown = said.getvalue().replace("\r", "\n")
        (sentence,) = (line for line in shown.split("\n") if line.startswith("allora-lab: "))
        require_sentence(sentence.replace("\u2028", " "))
        assert "Traceback" not in shown
        left = [path for path in out.rglob("*") if path.is_file()] if out and out.exists() else []
        assert left == []
    return status or 0


@st.composite
def altered(draw: st.DrawFn, value: Any) -> Any:
    """Return a JSON value with one place changed, removed or added."""
    value = copy.deepcopy(value)
    place, parents = value, []
    while isinstance(place, dict | list) and place and (not parents or draw(st.booleans())):
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = draw(st.sampled_from(keys))
        parents.append((place, key))
        place = place[key]
    if not parents:
        return draw(jsons)
    holder, key = parents[-1]
    change = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
    if change == "replace":
        holder[key] = draw(jsons)
    elif change == "remove":
        del holder[key]
    elif isinstance(holder, dict):
        holder[draw(texts)] = draw(jsons)
    else:
        holder.append(draw(jsons))
    return value


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return the bytes of a file cut short, with bytes replaced, or of another file altogether."""
    kind = draw(st.sampled_from(["cut", "replace", "other", "deep"]))
    if kind == "cut":
        return whole[: draw(st.integers(0, len(whole)))]
    if kind == "replace":
        place = draw(st.integers(0, max(0, len(whole) - 1)))
        return whole[:place] + draw(st.binary(min_size=1, max_size=8)) + whole[place + 1 :]
    if kind == "deep":
        return draw(st.sampled_from([b"[", b'{"a":', b"[[["])) * 10_000
    return draw(st.binary(max_size=40))
