"""A forward pass kept module by module, and modules made to compute something else for a while."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

Forward = Callable[..., Any]
Follows = tuple[bool, ...] | None  # of an output's leaves, or None where copies cannot be made


@dataclass
class Call:
    """One module's part in a recorded pass: when it began and ended, what it read and returned.

    `read` is None when it was given anything but one tensor by its place.
    """

    start: int
    end: int
    read: Tensor | None
    output: Any


@dataclass
class Recording:
    """A forward pass: each module's call, and the logits.

    `follows` says, by module, which leaves of its output have one entry (or several) an example;
    `twice` has the modules called more than once, `overwritten` those whose tensors were changed in
    place after the call, so that what is kept of them is not what it was.
    """

    calls: dict[str, Call] = field(default_factory=dict)
    follows: dict[str, Follows] = field(default_factory=dict)
    twice: set[str] = field(default_factory=set)
    overwritten: set[str] = field(default_factory=set)
    logits: Tensor | None = None


@contextmanager
def _hooked(
    model: nn.Module, before: Callable[..., None], after: Callable[..., None]
) -> Iterator[None]:
    """Call before(name, args, kwargs) and after(name, output) around every module but the whole."""
    handles = []
    for name, module in model.named_modules():
        if name:
            handles += [
                module.register_forward_pre_hook(
                    lambda _m, args, kwargs, name=name: before(name, args, kwargs), with_kwargs=True
                ),
                module.register_forward_hook(lambda _m, _a, out, name=name: after(name, out)),
            ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def record(model: nn.Module, inputs: Mapping[str, Tensor]) -> Recording:
    """Keep what every module reads and returns in one pass, and run another to see what follows."""
    found, clock = Recording(), iter(range(10**9))
    begun: dict[str, tuple[int, Tensor | None]] = {}
    versions: list[tuple[str, Tensor, int]] = []

    def before(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        is_one = len(args) == 1 and isinstance(args[0], Tensor) and not kwargs
        begun[name] = (next(clock), args[0] if is_one else None)

    def after(name: str, output: Any) -> None:
        if name in found.calls:
            found.twice.add(name)
        start, read = begun[name]
        found.calls[name] = Call(start, next(clock), read, output)
        tensors = [leaf for leaf in tree_leaves((read, output)) if isinstance(leaf, Tensor)]
        versions.extend((name, tensor, tensor._version) for tensor in tensors)

    with _hooked(model, before, after):
        found.logits = model(**inputs).logits
    found.overwritten = {name for name, tensor, then in versions if tensor._version != then}
    found.follows = _following(model, inputs, found)
    return found


def _follows(first: list[Any], second: list[Any]) -> Follows:
    """Return which leaves' first axis doubles with the batch; None unless the others stay."""
    if len(first) != len(second):
        return None
    kinds = []
    for one, two in zip(first, second, strict=True):
        if isinstance(one, Tensor):
            doubled = (2 * one.shape[0], *one.shape[1:]) if one.dim() else ()
            if two.shape not in (one.shape, doubled):
                return None
            kinds.append(two.shape == doubled != one.shape)
        elif isinstance(one, bool | int | float | str | None):
            kinds.append(False)
        else:
            return None  # an object with a state of its own, such as a cache
    return tuple(kinds)


def _following(
    model: nn.Module, inputs: Mapping[str, Tensor], recording: Recording
) -> dict[str, Follows]:
    """Return `Recording.follows`.

    Found from a pass over the batch given twice, and not from the sizes alone, for a batch may have
    as many examples as tokens.
    """
    found: dict[str, Follows] = {}

    def after(name: str, output: Any) -> None:
        if name in recording.calls:
            found[name] = _follows(tree_leaves(recording.calls[name].output), tree_leaves(output))

    with _hooked(model, lambda *_: None, after):
        model(**copied_batch(inputs, 2, len(recording.logits)))
    return found


@contextmanager
def forwards(model: nn.Module, instead: Mapping[str, Forward]) -> Iterator[None]:
    """Let modules compute something else for the length of a `with` block."""
    modules = {name: model.get_submodule(name) for name in instead}
    own = {name: vars(module).get("forward") for name, module in modules.items()}
    for name, module in modules.items():
        module.forward = instead[name]
    try:
        yield
    finally:
        for name, module in modules.items():
            if own[name] is None:
                del module.forward
            else:
                module.forward = own[name]


def unchanged(recording: Recording, target: str) -> list[str]:
    """Return the largest modules that a change of `target`'s output cannot reach.

    Those that had ended when it began, and those that read the very tensor that it read and nothing
    else; of these, the ones whose kept output is whole and can be repeated.
    """
    at = recording.calls[target]

    def is_unchanged(call: Call) -> bool:
        reads_the_same = call.read is not None and call.read is at.read
        return call.end < at.start or (reads_the_same and call.start > at.end)

    left_out = recording.twice | recording.overwritten
    names = [
        name
        for name, call in recording.calls.items()
        if name not in left_out and recording.follows.get(name) is not None and is_unchanged(call)
    ]
    kept = set(names)

    def has_parent(name: str) -> bool:
        parts = name.split(".")
        return any(".".join(parts[:i]) in kept for i in range(1, len(parts)))

    return [name for name in names if not has_parent(name)]


def copied(tensor: Tensor, copies: int) -> Tensor:
    """Return a batch given `copies` times over, one whole batch after the other."""
    return tensor.repeat(copies, *[1] * (tensor.dim() - 1))


def copied_batch(inputs: Mapping[str, Tensor], copies: int, n: int) -> dict[str, Tensor]:
    """Return the inputs of a batch of n given `copies` times: those with n entries are repeated."""
    return {k: copied(v, copies) if v.dim() and len(v) == n else v for k, v in inputs.items()}


def repeated(output: Any, copies: int, follows: tuple[bool, ...]) -> Any:
    """Return an output for `copies` copies of the batch: the leaves that follow it, repeated."""
    leaves, shape = tree_flatten(output)
    pairs = zip(leaves, follows, strict=True)
    return tree_unflatten([copied(v, copies) if is_so else v for v, is_so in pairs], shape)
