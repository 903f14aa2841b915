"""A forward pass kept module by module, and modules made to compute something else for a while."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map

Forward = Callable[..., Any]


@dataclass
class Call:
    """One module's part in a recorded pass: when it began and ended, what it read and returned."""

    start: int
    end: int
    read: Any
    output: Any


@dataclass
class Recording:
    """A forward pass: each module's call (those called twice are in `twice`), and the logits."""

    calls: dict[str, Call] = field(default_factory=dict)
    twice: set[str] = field(default_factory=set)
    logits: Tensor | None = None


def record(model: nn.Module, inputs: Mapping[str, Tensor]) -> Recording:
    """Run the model once and keep what every module read and returned."""
    found, clock, handles = Recording(), iter(range(10**9)), []
    begun: dict[str, int] = {}

    def before(name: str) -> Callable[..., None]:
        return lambda _module, _args: begun.__setitem__(name, next(clock))

    def after(name: str) -> Callable[..., None]:
        def keep(_module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if name in found.calls:
                found.twice.add(name)
            read = args[0] if args else None
            found.calls[name] = Call(begun[name], next(clock), read, output)

        return keep

    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(before(name)))
            handles.append(module.register_forward_hook(after(name)))
    try:
        found.logits = model(**inputs).logits
    finally:
        for handle in handles:
            handle.remove()
    return found


@contextmanager
def forwards(model: nn.Module, instead: Mapping[str, Forward]) -> Iterator[None]:
    """Let modules compute something else for the length of a `with` block."""
    modules = {name: model.get_submodule(name) for name in instead}
    for name, module in modules.items():
        module.forward = instead[name]
    try:
        yield
    finally:
        for module in modules.values():
            del module.forward


def unchanged(recording: Recording, target: str) -> list[str]:
    """Return the largest modules that a change of `target`'s output cannot reach.

    Those that had ended when it began, and those that read the very tensor that it read.
    """
    at = recording.calls[target]

    def is_unchanged(name: str, call: Call) -> bool:
        reads_the_same = isinstance(call.read, Tensor) and call.read is at.read
        contains = target.startswith(f"{name}.") or name.startswith(f"{target}.")
        return (call.end < at.start or (reads_the_same and name != target)) and not contains

    names = [
        name
        for name, call in recording.calls.items()
        if name not in recording.twice and is_unchanged(name, call)
    ]
    kept = set(names)

    def has_parent(name: str) -> bool:
        parts = name.split(".")
        return any(".".join(parts[:i]) in kept for i in range(1, len(parts)))

    return [name for name in names if not has_parent(name)]


def repeated(output: Any, copies: int, n: int) -> Any:
    """Return an output for `copies` copies of a batch of n: tensors whose first axis is n, repeated."""

    def repeat(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and leaf.dim() and leaf.shape[0] == n:
            return leaf.repeat(copies, *[1] * (leaf.dim() - 1))
        return leaf

    return tree_map(repeat, output)
