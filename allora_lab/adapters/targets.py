"""Which layers get an adapter: names and expressions as PEFT reads them, and a default by family.

Expressions may come from files of strangers, and Python's own `re` can take for ever on one such as
`(.*)*x`.  So an expression must be valid for `re`, and is matched by the package `regex`, whose
matching stops after a given time.
"""

import difflib
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import regex
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from allora_lab.adapters.base import AdaptedLinear, linear_weight

# the new head of a sequence classifier: most models, decoders, BART, DistilBERT
HEADS = ("classifier", "score", "classification_head", "pre_classifier")
MATCH_SECONDS = 2.0  # for all names together; an honest expression takes milliseconds
LONGEST = 100_000  # characters; an export that lists a thousand layers has 60,000

# What families call the projections to queries and values; the first row with a match is taken.
QUERIES_AND_VALUES = (
    ("query", "value"),  # BERT, RoBERTa, ELECTRA, ViT
    ("q_proj", "v_proj"),  # Llama, Qwen2, Mistral, Gemma, OPT, BART
    ("q_lin", "v_lin"),  # DistilBERT
    ("query_proj", "value_proj"),  # DeBERTa
    ("q", "v"),  # T5
    ("c_attn",),  # GPT-2
    ("query_key_value",),  # GPT-NeoX, BLOOM, Falcon
    ("qkv_proj",),  # Phi-3
    ("Wqkv",),  # ModernBERT, MPT
)


class Expression:
    """A regular expression, all of whose matching together takes at most `MATCH_SECONDS`.

    With `is_end` it may also match the end of a name, after a dot.

    Raises
    ------
    ValueError
        If it does not compile.  `matches` raises it when the time is up.
    """

    def __init__(self, text: str, what: str, *, is_end: bool = False) -> None:
        self.what, self.left = f"{what} {text[:80]!r}", MATCH_SECONDS
        text = rf"(.*\.)?({text})" if is_end else text
        try:
            if len(text) > LONGEST:
                raise OverflowError(f"it has more than {LONGEST} characters")
            re.compile(text)  # what PEFT would accept
            self._compiled = regex.compile(text)
        except (re.error, regex.error, OverflowError, RecursionError) as error:
            raise ValueError(
                f"{self.what} is not a regular expression ({error}): correct it, or give a list of "
                "names"
            ) from None

    def matches(self, name: str) -> bool:
        """Return whether the whole of `name` matches."""
        start = time.perf_counter()
        try:
            return self._compiled.fullmatch(name, timeout=max(self.left, 1e-3)) is not None
        except TimeoutError:
            raise ValueError(
                f"{self.what} takes too long to match: remove nested repetitions such as (.*)*, or "
                "give a list of names"
            ) from None
        finally:
            self.left -= time.perf_counter() - start


def matcher(target_modules: Sequence[str] | str) -> Callable[[str], bool]:
    """Return the function that says whether PEFT would adapt the module of a given name.

    A list matches a module named so, or whose name ends in `.` and one of its entries; a string is
    a regular expression for the whole name, or "all-linear" for every linear layer but the one
    that turns hidden states into words (`find_targets` leaves that one out).

    Raises
    ------
    ValueError
        If an expression does not compile or takes too long, or a name is empty or not text.
    """
    if target_modules == "all-linear":
        return lambda _name: True
    if isinstance(target_modules, str):
        return Expression(target_modules, "target_modules").matches
    wrong = [target for target in target_modules if not (isinstance(target, str) and target)]
    if wrong:
        raise ValueError(f"target_modules must be names of layers, got {wrong[0]!r}")
    ends = tuple(f".{target}" for target in target_modules)
    return lambda name: name in target_modules or name.endswith(ends)


def is_target(name: str, target_modules: Sequence[str] | str) -> bool:
    """Return whether PEFT would adapt the module `name`; see `matcher`."""
    return matcher(target_modules)(name)


def pattern_values(
    what: str, pattern: Mapping[str, float] | None, names: Iterable[str], otherwise: float
) -> dict[str, float]:
    """Return, for each layer, the value of the first key of a rank or alpha pattern that matches it.

    As in PEFT, a key is a regular expression for the whole name or for its end after a dot.  `what`
    is the pattern's own name, for the message of the ValueError that a bad key raises.
    """
    keys = (pattern or {}).items()
    rows = [(Expression(key, f"{what} key", is_end=True), value) for key, value in keys]
    return {n: next((v for key, v in rows if key.matches(n)), otherwise) for n in names}


def is_in_head(name: str) -> bool:
    """Return whether a module or parameter belongs to the new head, also inside a wrapper."""
    return any(part in HEADS for part in name.split("."))


def owners_by_weight(model: nn.Module) -> dict[int, list[str]]:
    """Return, by `id` of each parameter, the names of the modules that hold it: two when it is tied."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    return owners


def default_targets(names: Iterable[str]) -> tuple[str, ...]:
    """Return which names to adapt where none are given: queries and values, as PEFT's default is.

    Raises
    ------
    ValueError
        If the model's family has other names for them than those of `QUERIES_AND_VALUES`.
    """
    ends = {name.rpartition(".")[2] for name in names}
    for row in QUERIES_AND_VALUES:
        if found := tuple(name for name in row if name in ends):
            return found
    raise ValueError(
        f"there are no default target_modules for this model: choose from {', '.join(sorted(ends))}"
    )


def _require_each_matches(
    target_modules: Sequence[str] | str, linear: Iterable[str], choices: list[str]
) -> None:
    """Raise ValueError, with the nearest name, unless every entry matches, and stands there once."""
    listed = [target_modules] if isinstance(target_modules, str) else list(target_modules)
    for target in listed:
        if listed.count(target) > 1:
            raise ValueError(f"target_modules has {target!r} twice: give each name once")
    unmatched = [target_modules] if isinstance(target_modules, str) else []
    if not isinstance(target_modules, str):
        unmatched = [t for t in listed if not any(map(matcher([t]), linear))]
    if unmatched or not listed:
        near = difflib.get_close_matches(str(unmatched[0]), choices, n=1) if unmatched else []
        hint = f"did you mean {near[0]!r}? " if near else ""
        wanted = repr(unmatched[0][:80]) if unmatched else "[]"
        raise ValueError(
            f"target_modules {wanted} match no linear layer: {hint}choose from {', '.join(choices)}"
        )


def find_targets(
    model: nn.Module, target_modules: Sequence[str] | str | None, *, r: int
) -> dict[str, nn.Module]:
    """Return the `nn.Linear` and `Conv1D` layers to adapt, by name; the head is left alone.

    None takes the queries and values of the model's family: see `default_targets`.

    Raises
    ------
    ValueError
        If the model is adapted already, an entry matches nothing or is given twice, an expression is
        none or takes too long, or r is too large for a match.
    """
    if any(isinstance(module, AdaptedLinear) for module in model.modules()):
        raise ValueError(
            "this model already has adapters: merge them with merge_adapters, or load it afresh"
        )
    words_out = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    every = {
        n: m
        for n, m in model.named_modules()
        if n and isinstance(m, nn.Linear | Conv1D) and not is_in_head(n)
    }
    linear = {n: m for n, m in every.items() if m is not words_out}
    if target_modules is None:
        target_modules = default_targets(linear)
    allowed = linear if target_modules == "all-linear" else every
    matches = matcher(target_modules)
    targets = {n: m for n, m in allowed.items() if matches(n)}
    if not targets or not isinstance(target_modules, str):
        owners = owners_by_weight(model)
        untied = [n for n, m in every.items() if len(owners[id(m.weight)]) == 1]
        choices = sorted({name.rpartition(".")[2] for name in untied})
        _require_each_matches(target_modules, every, choices)
    for name, layer in targets.items():
        largest = min(linear_weight(layer).shape)
        if r > largest:
            raise ValueError(f"r must be at most {largest} for the layer {name}, got {r}")
    return targets
