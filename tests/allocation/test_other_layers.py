"""Linear layers without ranks: the replay computes no more of them than is read, and the same."""

import pytest
import torch
from torch import nn

from allora_lab import inject_adapters
from allora_lab.allocation.importance import plain_scores
from allora_lab.allocation.places import gated_layers
from allora_lab.allocation.replay import Replayer, replayed_scores

from .tiny import Head, adapted, batch_for, text_batch


def assert_replayed_right(model, batch):
    plain, found = plain_scores(model, batch), replayed_scores(model, batch, copies=2)
    assert torch.cat(list(plain.values())).std() > 1e-5
    for name, row in plain.items():
        torch.testing.assert_close(found[name], row, rtol=0, atol=1e-10)


def rows_computed(model, batch, names, target):
    """Return how many rows each of `names` is given while two masks on `target` are scored."""
    seen = dict.fromkeys(names, 0)

    def counting(name, forward):
        def run(x):
            seen[name] += x.numel() // x.shape[-1]
            return forward(x)

        return run

    with torch.no_grad():
        for name in names:  # the replay keeps the forward that it finds
            module = model.get_submodule(name)
            module.forward = counting(name, module.forward)
        replayer = Replayer(model, batch, 2)
        seen.update(dict.fromkeys(names, 0))
        replayer.masked_scores(replayer.whole, target, [0, 1])
    return seen


def test_layers_without_ranks_compute_the_rows_that_are_read():
    model = adapted("bert", dtype=torch.float64, target_modules=["value"])
    batch = text_batch(4, lengths=[9, 4, 6, 9])
    block = "bert.encoder.layer."
    names = [f"{block}{i}.{m}.dense" for i in (0, 1) for m in ("intermediate", "output")]
    seen = rows_computed(model, batch, names, f"{block}0.attention.self.value")
    real = int(batch["attention_mask"].sum())
    assert [seen[name] for name in names] == [2 * real, 2 * real, 2 * 4, 2 * 4]
    assert_replayed_right(model, batch)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "distilbert", "vit"])
def test_one_adapted_kind_of_layer_is_scored_right_in_every_family(kind):
    targets = {"gpt2": "c_attn", "llama": "v_proj", "distilbert": "lin1", "vit": "fc1"}
    model = adapted(kind, dtype=torch.float64, target_modules=[targets[kind]])
    assert_replayed_right(model, batch_for(kind, dtype=torch.float64))


class Beside(nn.Module):
    """An adapted layer beside others that read no batch, or run twice, or are called by name."""

    def __init__(self):
        super().__init__()
        self.first, self.where = nn.Linear(6, 8), nn.Linear(4, 8)
        self.twice, self.named, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        tokens = torch.stack((x, -x, 2 * x), dim=1)  # (n, 3, 6), of which the last is read
        h = torch.tanh(self.first(tokens))
        h = self.twice(torch.tanh(h))
        h = self.twice(h + h.mean(dim=1, keepdim=True))  # of this call the last alone
        h = self.named(input=h) + self.where(torch.eye(4)[:3].to(x))
        return self.last(torch.tanh(h))[:, -1]


def test_layers_that_cannot_be_cut_short_are_left_whole():
    torch.manual_seed(0)
    model = Head(Beside()).double()
    inject_adapters(model, "alora-ablation", r=2, target_modules=["first"])
    for layer in gated_layers(model.eval()).values():
        layer.lora_B.data.normal_()
    batch = batch_for("mlp", n=5, dtype=torch.float64)
    assert_replayed_right(model, batch)
    assert rows_computed(model, batch, ["net.last"], "net.first") == {"net.last": 2 * 5}


class Forked(nn.Module):
    """Calls one layer or another, by what the first one gives."""

    def __init__(self):
        super().__init__()
        self.first, self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        h = self.first(torch.stack((x, x * x), dim=1))  # (n, 2, 8), of which the last is read
        return (self.up if h.sum() > 0 else self.down)(h)[:, -1]


def test_a_layer_that_only_one_of_the_two_networks_calls_is_scored_right():
    torch.manual_seed(0)
    model, batch = Head(Forked()).double(), batch_for("mlp", dtype=torch.float64)
    inject_adapters(model, "alora-ablation", r=2, target_modules=["first"])
    layer = model.eval().net.first
    with torch.no_grad():
        layer.base_layer.bias.fill_(-1.0)  # down without ranks, up with them
        layer.lora_A.fill_(1.0)
        layer.lora_B.copy_(torch.tensor([[3.0, 1.0]]).expand(8, 2))
        assert layer(batch["x"].square()).sum() > 0 > layer.base_layer(batch["x"].square()).sum()
    for name, row in plain_scores(model, batch).items():
        found = replayed_scores(model, batch, copies=1)[name]
        torch.testing.assert_close(found, row, rtol=0, atol=1e-10)
