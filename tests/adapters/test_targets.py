"""Expressions from files of strangers: matched as by PEFT, in bounded time, and never a traceback."""

import pytest
import torch
from torch import nn

from allora_lab import inject_adapters
from allora_lab.adapters import targets
from allora_lab.adapters.targets import Expression, pattern_values

NAME = "model.layers.11.self_attn.q_proj"
HANGING = ("(.*)*x", "(.*)*x$", "(a|a|.)*$b", r"((\w+)*\.?)*!", "(.?){40}(.?){40}(.?){40}[!?]")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", HANGING)
def test_an_expression_on_which_re_hangs_ends(text, monkeypatch):
    monkeypatch.setattr(targets, "MATCH_SECONDS", 0.2)
    model = nn.ModuleDict({"query": nn.Linear(8, 8), "q" * 60: nn.Linear(8, 8)})
    with pytest.raises(ValueError, match="target_modules"):
        inject_adapters(model, "lora", r=2, target_modules=text)
    try:
        values = pattern_values("rank_pattern", {text: 2}, [NAME, "q" * 60], 8)
    except ValueError:
        return
    assert set(values.values()) == {8}


@pytest.mark.timeout(60)
def test_all_names_together_share_one_limit_of_time(monkeypatch):
    monkeypatch.setattr(targets, "MATCH_SECONDS", 0.2)
    slow = Expression("(?:a|a)*(?=b|c)[bc]", "target_modules")
    with pytest.raises(ValueError, match="too long"):
        list(map(slow.matches, ("a" * length for length in range(1, 10_000))))


@pytest.mark.parametrize("text", ["(0", "*", "(?R)", "(" * 5000 + ")" * 5000, "a" * 200_000])
def test_what_is_no_expression_is_one_sentence(text):
    with pytest.raises(ValueError, match="not a regular expression") as caught:
        Expression(text, "target_modules")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_float64_as_torchs_default_changes_no_start():
    starts = []
    for kind in (torch.float32, torch.float64):
        torch.set_default_dtype(kind)
        try:
            for method in ("lora", "sora", "adalora"):
                model = nn.ModuleDict({"query": nn.Linear(24, 17, dtype=torch.float32)})
                generator = torch.Generator().manual_seed(1)
                layer = inject_adapters(model, method, r=4, generator=generator)["query"]
                starts.append(layer.lora_A.detach().clone())
        finally:
            torch.set_default_dtype(torch.float32)
    for one, other in zip(starts[:3], starts[3:], strict=True):
        assert torch.equal(one, other)
