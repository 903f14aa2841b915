"""torch.compile, in a process of its own: the test suite's type checks would be compiled too."""

import subprocess
import sys

import pytest

PROGRAM = """
import torch
from torch import nn
from allora_lab import inject_adapters

METHODS = (
    *("lora", "dora", "allora", "allora-od", "asf-lora"),
    *("alora-ablation", "alora-dnas", "sora", "adalora"),
)
for method in METHODS:
    torch.manual_seed(0)
    model = nn.ModuleDict({"query": nn.Linear(24, 17).double()})
    inject_adapters(model, method, r=4)
    layer = model["query"]
    for parameter in layer.parameters():
        if parameter.requires_grad:
            parameter.data.normal_()
    x = torch.randn(5, 24, dtype=torch.float64)
    layer(x).square().sum().backward()
    plain = layer.lora_A.grad.clone()
    layer.zero_grad()
    torch.compile(layer, fullgraph=True, backend="aot_eager")(x).square().sum().backward()
    torch.testing.assert_close(layer.lora_A.grad, plain)
    print(method, "compiled")
"""


@pytest.mark.slow
def test_methods_compile_in_one_graph_to_the_same_gradients():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.stdout.count("compiled") == 9, done.stderr[-2000:]
