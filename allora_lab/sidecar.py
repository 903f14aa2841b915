"""`allora.json`, the file beside a PEFT adapter that says how ALLoRA trained it.

PEFT's own two files hold a plain LoRA adapter, which says all there is to say of what it computes.
η² matters to who trains on, and PEFT's configuration has no field for it; so it stands in a third
file, which PEFT does not read:

    {"method": "allora", "eta_squared": 4.0}
"""

import json
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path

from allora_lab.checks import require_eta_squared, require_kind, require_known
from allora_lab.files import written_whole

SIDECAR = "allora.json"
SIDECAR_METHODS = ("allora", "allora-update")  # the coefficient on the gradient, or on the step


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """How an adapter was trained: η² and whether the coefficient was on gradients or on steps.

    Raises ValueError for an unknown method, or an η² that is not above 0 and at most 1e6.
    """

    eta_squared: float
    method: str = "allora"

    def __post_init__(self) -> None:
        """Check both values."""
        require_eta_squared(self.eta_squared)
        require_known("method", self.method, SIDECAR_METHODS)


def write_sidecar(folder: Path | str, sidecar: Sidecar) -> None:
    """Write `allora.json` into an adapter's folder, whole or not at all."""
    with written_whole(Path(folder) / SIDECAR) as path:
        path.write_text(json.dumps(asdict(sidecar), indent=2) + "\n")


def remove_sidecar(folder: Path | str) -> None:
    """Remove an earlier `allora.json`, for an adapter that ALLoRA did not train."""
    (Path(folder) / SIDECAR).unlink(missing_ok=True)


def read_sidecar(folder: Path | str) -> Sidecar | None:
    """Return what `allora.json` in an adapter's folder says, or None where there is none.

    Raises
    ------
    ValueError
        If the file is no JSON object with these two keys, or a value is out of range.
    """
    path = Path(folder) / SIDECAR
    if not path.exists():
        return None
    wanted = f'expected {{"method": "allora", "eta_squared": 4.0}} in {path}'
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:  # no JSON, no text, nested too deep
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise ValueError(f"{wanted}, which cannot be read ({reason}): write it anew") from None
    if not isinstance(values, dict) or values.keys() != {"method", "eta_squared"}:
        raise ValueError(f"{wanted}, got {values!r:.80}: write it anew")
    try:
        require_kind("eta_squared", values["eta_squared"], Real, "a number")
        require_kind("method", values["method"], str, "text")
        return Sidecar(**values)
    except (ValueError, OverflowError) as error:  # the latter for a whole number beyond all floats
        raise ValueError(f"{wanted}: {error}") from None
