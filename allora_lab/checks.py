"""What is said of bad input: one sentence with what is wrong, what was expected and what to do."""

import difflib
import dis
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any, get_args

LONGEST_SHOWN = 80  # letters of a value that a sentence quotes
LONGEST_TEXT = 4096  # letters of a name, as of a path
LARGEST_SHOWN = 10**LONGEST_SHOWN

# What a `raise` of this package says to its user: a value, a file, a number, a missing library.
SPOKEN = (ValueError, OSError, ArithmeticError, ModuleNotFoundError)


def is_for_the_user(error: BaseException) -> bool:
    """Return whether an error speaks to the user, and is no bug of this package or of a library.

    It does when a `raise` statement of this package raised it, or when the operating system did (a
    file that is missing, a full disk).  The ValueError of a library, or of a builtin that this
    package calls, such as `int`, was not foreseen: it is a bug, and its traceback must be seen.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return True
    last = error.__traceback__
    if last is None or not isinstance(error, SPOKEN):
        return False
    while last.tb_next:
        last = last.tb_next
    code, module = last.tb_frame.f_code.co_code, last.tb_frame.f_globals.get("__name__", "")
    is_raise = code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return is_raise and module.split(".")[0] == "allora_lab"


def require_known(kind: str, key: object, valid: Iterable[str]) -> None:
    """Raise ValueError, naming the nearest valid name, unless `key` is one of `valid`."""
    names = list(valid)
    require_kind(kind, key, str, "text")
    if key in names:
        return
    near = difflib.get_close_matches(key[:LONGEST_SHOWN], names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"unknown {kind} {shortened(key)}: {hint}choose one of {', '.join(names)}")


def require_kind(name: str, value: object, kind: type, words: str) -> None:
    """Raise ValueError, naming what was expected in words, unless `value` is of a kind.

    True and False are not taken for numbers.
    """
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not fits:
        raise ValueError(f"{name} must be {words}, got {shortened(value)}")


def require_positive(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a finite number above zero."""
    if not 0 < value <= sys.float_info.max:  # a whole number may be above what a float can hold
        raise ValueError(f"{name} must be a finite number above 0, got {shortened(value)}")


LARGEST_ETA_SQUARED = 1e6  # far above use (1 to 16), far below where 1/η² leaves float16


def require_eta_squared(value: float) -> None:
    """Raise ValueError unless `value` is above 0 and at most 1e6."""
    require_positive("eta_squared", value)
    if value > LARGEST_ETA_SQUARED:
        raise ValueError(f"eta_squared must be at most {LARGEST_ETA_SQUARED:g}, got {value}")


def require_at_least(name: str, value: float, least: float) -> None:
    """Raise ValueError unless `value` is at least `least`."""
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {shortened(value)}")


def require_at_most(name: str, value: float, most: float) -> None:
    """Raise ValueError unless `value` is at most `most`."""
    if value > most:
        raise ValueError(f"{name} must be at most {most}, got {shortened(value)}")


def require_finite(name: str, value: float) -> None:
    """Raise ValueError if `value` is infinite or NaN."""
    if not abs(value) <= sys.float_info.max:
        raise ValueError(f"{name} must be a finite number, got {shortened(value)}")


def require_probability(name: str, value: float) -> None:
    """Raise ValueError unless `value` lies in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")


def shortened(value: object) -> str:
    """Return a value as Python writes it, cut where it is longer than a line has room for."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= LARGEST_SHOWN:
        return f"a whole number of {value.bit_length()} bits"  # long ones cannot be written in time
    words = repr(value)
    return words if len(words) <= LONGEST_SHOWN else f"{words[:LONGEST_SHOWN]}..."


def require_text(name: str, value: object) -> None:
    """Raise ValueError unless `value` can be a name: not empty, no control characters, not endless."""
    require_kind(name, value, str, "text")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"{name} must have at most {LONGEST_TEXT} letters, got {len(value)}")
    if not value or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in value):
        raise ValueError(
            f"{name} must be text of letters and signs that can be printed, got {shortened(value)}"
        )


def require_type(name: str, value: object, declared: Any) -> None:
    """Raise ValueError unless a value of a TOML file, a record or a flag fits its field's type.

    A number must fit a float, and text must be printable; a field of names holds at least one.
    """
    kinds = get_args(declared) or (declared,)
    kind = kinds[0]
    if value is None and type(None) in kinds:
        return
    if kind is str:
        require_text(name, value)
    elif kind in (int, float, bool):
        accepted = int | float if kind is float else kind
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            words = {int: "a whole number", float: "a number", bool: "true or false"}
            raise ValueError(f"{name} must be {words[kind]}, got {shortened(value)}")
        if kind is float:
            require_finite(name, value)
    elif isinstance(value, list | tuple):
        if not value:
            raise ValueError(f"{name} is empty: name at least one, or leave it out")
        for part in value:
            require_text(f"each of {name}", part)
    else:
        require_text(name, value)
