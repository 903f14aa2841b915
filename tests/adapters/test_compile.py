"""torch.compile, in a process of its own: the test suite's type checks would be compiled too."""

import subprocess
import sys

import pytest
from torch import nn

from allora_lab import METHODS, inject_adapters

PROGRAM = """
import torch
from torch import nn
from allora_lab import METHODS, inject_adapters

seen = set()
for method in METHODS:
    torch.manual_seed(0)
    model = nn.ModuleDict({"query": nn.Linear(24, 17).double()})
    inject_adapters(model, method, r=4)
    layer = model["query"]
    if type(layer) in seen:
        continue
    seen.add(type(layer))
    for parameter in layer.parameters():
        if parameter.requires_grad:
            parameter.data.normal_()
    x = torch.randn(5, 24, dtype=torch.float64)
    layer(x).square().sum().backward()
    trained = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    plain = {name: p.grad.clone() for name, p in trained.items()}
    layer.zero_grad()
    torch.compile(layer, fullgraph=True, backend="aot_eager")(x).square().sum().backward()
    torch.testing.assert_close({name: p.grad for name, p in trained.items()}, plain)
    print(type(layer).__name__, "compiled")
"""


@pytest.mark.slow
def test_methods_compile_in_one_graph_to_the_same_gradients():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    kinds = {
        type(inject_adapters(nn.ModuleDict({"query": nn.Linear(24, 17)}), key)["query"]).__name__
        for key in METHODS
    }
    assert {line.removesuffix(" compiled") for line in done.stdout.splitlines()} == kinds
