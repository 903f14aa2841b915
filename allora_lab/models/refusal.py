"""What transformers, tokenizers and safetensors raise over a model's files, as one sentence."""

import textwrap
from types import TracebackType


def _raised() -> tuple[type[Exception], ...]:
    """Return what the libraries raise; they are imported where something was raised alone."""
    from huggingface_hub.errors import StrictDataclassError
    from jinja2 import TemplateError
    from safetensors import SafetensorError

    return (
        *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
        *(AssertionError, RuntimeError, ImportError, MemoryError),
        *(SafetensorError, StrictDataclassError, TemplateError),
    )


class Refusing:
    """Raise ValueError in place of what a library raises inside the block.

    `what` names the file or folder and says what is wrong with it; the sentence is "`what`
    (reason): `remedy`".
    tokenizers raises `Exception` itself, which an `except` clause cannot name without naming every
    other exception too; here the type is compared, so that nothing else is caught with it.
    """

    def __init__(self, what: str, remedy: str = "correct it, or fetch the model again") -> None:
        self.what, self.remedy = what, remedy

    def __enter__(self) -> None:
        """Start the block."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Replace a library's error; leave every other one alone."""
        if error is not None and (kind is Exception or isinstance(error, _raised())):
            lines = " ".join(str(error).split())
            reason = f"{type(error).__name__}: {textwrap.shorten(lines, 200)}"
            raise ValueError(f"{self.what} ({reason}): {self.remedy}") from error
