"""What is said of bad input: one sentence with what is wrong, what was expected and what to do."""

import difflib
import dis
import math
from collections.abc import Iterable
from typing import Any, get_args

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


def require_known(kind: str, key: str, valid: Iterable[str]) -> None:
    """Raise ValueError, naming the nearest valid name, unless `key` is one of `valid`."""
    names = list(valid)
    if key in names:
        return
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"unknown {kind} {key!r}: {hint}choose one of {', '.join(names)}")


def require_kind(name: str, value: object, kind: type, words: str) -> None:
    """Raise ValueError, naming what was expected in words, unless `value` is of a kind.

    True and False are not taken for numbers.
    """
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not fits:
        raise ValueError(f"{name} must be {words}, got {value!r}")


def require_positive(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a finite number above zero."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number above 0, got {value}")


LARGEST_ETA_SQUARED = 1e6  # far above use (1 to 16), far below where 1/η² leaves float16


def require_eta_squared(value: float) -> None:
    """Raise ValueError unless `value` is above 0 and at most 1e6."""
    require_positive("eta_squared", value)
    if value > LARGEST_ETA_SQUARED:
        raise ValueError(f"eta_squared must be at most {LARGEST_ETA_SQUARED:g}, got {value}")


def require_at_least(name: str, value: int, least: int) -> None:
    """Raise ValueError unless `value` is at least `least`."""
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def require_probability(name: str, value: float) -> None:
    """Raise ValueError unless `value` lies in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")


def require_type(name: str, value: object, declared: Any) -> None:
    """Raise ValueError unless a value of a TOML file or a record fits the type of its field."""
    kinds = get_args(declared) or (declared,)
    kind = kinds[0]
    plain = {int: int, float: int | float, bool: bool, str: str}
    accepted = plain.get(kind, str | list | tuple)
    is_right = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    if not is_right and not (value is None and type(None) in kinds):
        words = {int: "a whole number", float: "a number", bool: "true or false"}
        raise ValueError(f"{name} must be {words.get(kind, 'text')}, got {value!r}")
