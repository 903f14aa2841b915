"""What the replay need not compute again, since no mask can change it or nobody reads it."""

import torch
from torch import nn

from allora_lab import inject_adapters
from allora_lab.allocation.importance import plain_scores
from allora_lab.allocation.places import gated_layers
from allora_lab.allocation.reach import rows_read
from allora_lab.allocation.recording import unchanged
from allora_lab.allocation.replay import Replayer, replayed_scores

from .brute import assert_scores_equal
from .tiny import Head, adapted, batch_for, text_batch


class Dead(nn.Module):
    """A product with a ReLU, which is read where the ReLU is on."""

    def __init__(self):
        super().__init__()
        self.low, self.gate, self.up = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        h = self.low(x)
        return h + torch.relu(self.gate(h)) * self.up(h)


def gated_by_relu():
    """Return a model whose layer `up` is read, for the first example, only when the gate wakes."""
    torch.manual_seed(0)
    model = Head(Dead()).double()
    inject_adapters(model, "alora-ablation", r=2, target_modules=["low", "up"])
    batch = batch_for("mlp", n=6, dtype=torch.float64)
    net = model.eval().net
    with torch.no_grad():
        for layer in (net.low, net.up):
            layer.lora_B.normal_(generator=torch.Generator().manual_seed(3))
        net.gate.weight.copy_(torch.eye(8))
        h = net.low(batch["x"])
        net.gate.bias.copy_(-h[0] - 1e-3)  # off for the first example, by a hair
    return model, batch


def test_an_example_whose_units_are_off_loses_no_row():
    model, batch = adapted("mlp", dtype=torch.float64), batch_for("mlp", dtype=torch.float64)
    first, last = model.net[0], model.net[2]
    with torch.no_grad():
        shift = last(torch.relu(first(batch["x"])))[0] + 1e-3
        last.base_layer.bias.sub_(shift)  # off for the first example, by a hair, in every unit
        assert (model.net(batch["x"])[0] == 0).all()
        assert (model.net(batch["x"])[1:] > 0).any(dim=1).all()
    assert_scores_equal(replayed_scores(model, batch), plain_scores(model, batch), 1e-10)


def test_a_unit_that_is_off_in_the_whole_network_may_be_on_in_a_masked_one():
    model, batch = gated_by_relu()
    plain = plain_scores(model, batch)
    assert_scores_equal(replayed_scores(model, batch), plain, 1e-10)


class Narrow(nn.Module):
    """Reads the second token only where the first is as it was, and a unit is on."""

    def __init__(self):
        super().__init__()
        self.tokens, self.seen = nn.Linear(3, 8), None

    def forward(self, x):
        first, second = self.tokens(x.view(len(x), 2, 3)).unbind(dim=1)
        if self.seen is None:
            self.seen = first.detach(), second.detach() + 1e-3
        is_same = (first == self.seen[0]).all(dim=1, keepdim=True)
        return first + is_same * torch.relu(second - self.seen[1])


def test_noise_is_tried_with_the_rows_that_are_read_as_they_are_too():
    torch.manual_seed(0)
    model, batch = Head(Narrow()).double().eval(), batch_for("mlp", dtype=torch.float64)
    inject_adapters(model, "alora-ablation", r=2, target_modules=["tokens"])
    inputs, instead = {"x": batch["x"]}, {"net.tokens": model.net.tokens.forward}
    with torch.no_grad():
        logits = model(**inputs).logits
    assert rows_read(model, inputs, instead, logits) == {}


def test_rows_that_nobody_reads_are_found_and_no_others():
    model, batch = adapted("bert", dtype=torch.float64), text_batch(4, lengths=[9, 4, 6, 9])
    layers = gated_layers(model)
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    instead = {n: m.forward for n, m in layers.items()}
    with torch.no_grad():
        logits = model(**inputs).logits
    rows = rows_read(model, inputs, instead, logits)
    first_tokens, real = [0, 9, 18, 27], batch["attention_mask"].flatten().nonzero().flatten()
    block = "bert.encoder.layer.1"
    for name in ("attention.self.query", "attention.output.dense", "output.dense"):
        assert rows[f"{block}.{name}"].tolist() == first_tokens
    assert rows[f"{block}.attention.self.key"].tolist() == real.tolist()
    assert rows["bert.encoder.layer.0.output.dense"].tolist() == real.tolist()
    assert not any(p.grad is not None for p in model.parameters())


def test_only_what_a_mask_can_change_is_computed_again():
    model, batch = adapted("bert"), text_batch()
    with torch.no_grad():
        replayer = Replayer(model, batch, 2)
    target = "bert.encoder.layer.1.attention.self.key"
    names = unchanged(replayer.whole.recording, target)
    assert "bert.embeddings" in names
    assert "bert.encoder.layer.0" in names
    own = "bert.encoder.layer.1.attention.self."
    assert {n for n in names if n.startswith(own)} == {own + "query", own + "value"}
    assert not any(n.startswith(("bert.pooler", "classifier")) for n in names)
    counted = dict.fromkeys(("bert.embeddings", "bert.encoder.layer.0.output", "bert.pooler"), 0)
    for name in counted:
        model.get_submodule(name).register_forward_hook(
            lambda *_args, name=name: counted.__setitem__(name, counted[name] + 1)
        )
    before = {}
    for name in ("bert.encoder.layer.1.output.dense", "bert.encoder.layer.0.output.dense"):
        with torch.no_grad():
            replayer.masked_scores(replayer.whole, name, [0, 1])
        before[name] = dict(counted)
    assert before["bert.encoder.layer.1.output.dense"]["bert.encoder.layer.0.output"] == 0
    assert before["bert.encoder.layer.0.output.dense"]["bert.encoder.layer.0.output"] == 1
    assert counted["bert.pooler"] == 2
