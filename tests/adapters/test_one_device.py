"""No method makes a tensor on another device than its input's: seen without a GPU, on `meta`.

On `meta` tensors have shapes and a device but no numbers, and some operations let them meet those of
a CPU; so every operation is watched, and what would fail on a GPU fails here.
"""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from allora_lab import METHODS, inject_adapters
from allora_lab.adapters.gated import GatedLinear

D_IN, D_OUT, N = 24, 17, 6


class OneDevice(TorchDispatchMode):
    """Refuses an operation on tensors of two devices; scalars and copies may cross, as on a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run the operation if its tensors stand on one device."""
        tensors = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.dim()}
        if len(devices) > 1 and func is not torch.ops.aten.copy_.default:
            raise RuntimeError(f"{func} on {' and '.join(sorted(devices))}")
        return func(*args, **(kwargs or {}))


def adapted(key, **settings):
    model = nn.ModuleDict({"query": nn.Linear(D_IN, D_OUT)})
    generator = torch.Generator().manual_seed(0)
    inject_adapters(model, key, r=4, target_modules=["query"], generator=generator, **settings)
    return model.to("meta")


@pytest.mark.parametrize("key", METHODS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_step_of_training_and_an_evaluation_stay_on_the_device(key, dropout):
    model = adapted(key, lora_dropout=dropout)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    x = torch.empty(N, D_IN, device="meta")
    with OneDevice():
        model.train()
        model["query"](x).sum().backward()
        optimizer.step()
        model.eval()
        y = model["query"](x)
        norms = model["query"].row_norms()
    assert all(p.grad.device.type == "meta" for p in trained)
    assert (y.device.type, norms.device.type) == ("meta", "meta")


@pytest.mark.parametrize(
    "key", [key for key in METHODS if isinstance(adapted(key)["query"], GatedLinear)]
)
def test_ranks_that_come_and_go_stay_on_the_device(key):
    layer = adapted(key)["query"]
    with OneDevice():
        layer.resize(torch.tensor([0, 2]), torch.randn(3, D_IN))
        layer(torch.empty(N, D_IN, device="meta"))
        norms = layer.rank_norms()
    assert (norms.device.type, norms.shape) == ("meta", (5,))


def test_the_watch_refuses_what_a_gpu_would():
    on_meta, on_cpu = torch.empty(3, device="meta"), torch.ones(3)
    with OneDevice():
        assert (on_meta * torch.tensor(2.0)).device.type == "meta"
        with pytest.raises(RuntimeError, match="on cpu and meta"):
            on_meta + on_cpu
