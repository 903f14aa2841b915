"""Modules that a replay must compute again, repeat, or refuse: each against plain passes."""

import pytest
import torch
from torch import nn

from allora_lab import inject_adapters
from allora_lab.allocation.importance import plain_scores
from allora_lab.allocation.places import gated_layers
from allora_lab.allocation.replay import replayed_scores

from .brute import assert_scores_equal
from .tiny import Head, batch_for


class Pairs(nn.Module):
    """Layers that read the same tensor, of which some read more."""

    def __init__(self, mix):
        super().__init__()
        self.first, self.second, self.mixer = nn.Linear(6, 8), nn.Linear(6, 8), mix

    def forward(self, x):
        return self.mixer(x, self.first(x)) + self.second(x)


class Bilinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 8)

    def forward(self, x, other):
        return torch.tanh(self.inner(x) * other)


def test_a_module_that_reads_the_same_tensor_and_another_is_computed_again():
    torch.manual_seed(0)
    model = Head(Pairs(Bilinear())).double()
    inject_adapters(model, "alora-ablation", r=2, target_modules=["first", "second"])
    for layer in gated_layers(model.eval()).values():
        layer.lora_B.data.normal_()
    batch = batch_for("mlp", dtype=torch.float64)
    assert_scores_equal(replayed_scores(model, batch), plain_scores(model, batch), 1e-10)


class Overwriting(nn.Module):
    """An adapted layer, and another that is not, whose outputs are changed in place."""

    def __init__(self, which):
        super().__init__()
        self.first, self.plain, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.which = which

    def forward(self, x):
        a = self.first(x)
        b = self.plain(a.clone())
        if self.which == "input":
            c = self.last(b)
            b.mul_(2)
            return b + c
        (a if self.which == "target" else b).mul_(2)
        return self.last(torch.tanh(a) + b) + b


class Borrowing(nn.Module):
    """Calls a layer that is not its child, so no name says that it depends on it."""

    def __init__(self, layer):
        super().__init__()
        self.borrowed, self.own = [layer], nn.Linear(8, 8)

    def forward(self, x):
        return self.own(torch.tanh(self.borrowed[0](x)))


class Lending(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 8)
        self.borrower = Borrowing(self.layer)

    def forward(self, x):
        return self.borrower(x + 0)


def test_a_module_that_calls_a_layer_of_another_is_computed_again():
    torch.manual_seed(0)
    model = Head(Lending()).double()
    inject_adapters(model, "alora-ablation", r=2, target_modules=["layer"])
    model.net.borrower.borrowed[0] = model.eval().net.layer
    model.net.layer.lora_B.data.normal_()
    batch = batch_for("mlp", dtype=torch.float64)
    assert_scores_equal(replayed_scores(model, batch), plain_scores(model, batch), 1e-10)


@pytest.mark.parametrize(("which", "named"), [("target", "net.first"), ("input", "net.last")])
def test_a_layer_changed_in_place_is_refused(which, named):
    model = Head(Overwriting(which))
    inject_adapters(model, "alora-ablation", r=2, target_modules=["first", "last"])
    with pytest.raises(ValueError, match=f"{named} has its input or output changed in place"):
        replayed_scores(model.eval(), batch_for("mlp"))


def test_another_module_changed_in_place_is_computed_again():
    torch.manual_seed(0)
    model = Head(Overwriting("other")).double()
    inject_adapters(model, "alora-ablation", r=2, target_modules=["first", "last"])
    for layer in gated_layers(model.eval()).values():
        layer.lora_B.data.normal_()
    batch = batch_for("mlp", dtype=torch.float64)
    assert_scores_equal(replayed_scores(model, batch), plain_scores(model, batch), 1e-10)


class Box:
    """Holds a tensor where no one who looks through lists and tuples finds it."""

    def __init__(self, inside):
        self.inside = inside


class Boxing(nn.Module):
    def forward(self, x):
        return Box(torch.tanh(x))


class Turning(nn.Module):
    """Gives tokens first and examples second, as some older models do."""

    def forward(self, x):
        return torch.tanh(x).view(len(x), 4, 2).transpose(0, 1)


class Middle(nn.Module):
    """An adapted layer before, and one after, a module whose output cannot be repeated."""

    def __init__(self, module):
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(6, 8), module, nn.Linear(8, 8)

    def forward(self, x):
        h = self.middle(self.first(x))
        h = h.inside if isinstance(h, Box) else h.transpose(0, 1).reshape(len(x), 8)
        return h + self.last(h)


@pytest.mark.parametrize("middle", [Boxing, Turning])
def test_a_module_whose_output_cannot_be_repeated_is_computed_again(middle):
    torch.manual_seed(0)
    model = Head(Middle(middle())).double()
    inject_adapters(model, "alora-ablation", r=2, target_modules=["first", "last"])
    for layer in gated_layers(model.eval()).values():
        layer.lora_B.data.normal_()
    batch = batch_for("mlp", dtype=torch.float64)
    assert_scores_equal(replayed_scores(model, batch), plain_scores(model, batch), 1e-10)


class Tables(nn.Module):
    """A module whose output is as long as the batch but not of the batch, and one that keeps state."""

    def __init__(self, n):
        super().__init__()
        self.table, self.inner, self.last = nn.Embedding(n, 8), nn.Linear(6, 8), nn.Linear(8, 8)

    def forward(self, x):
        table = self.table(torch.arange(self.table.num_embeddings))
        return self.last(torch.relu(self.inner(x) @ table.T @ table))


def test_a_table_as_long_as_the_batch_is_not_taken_for_part_of_it():
    torch.manual_seed(0)
    model = Head(Tables(5)).double()
    inject_adapters(model, "alora-ablation", r=2, target_modules=["inner", "last"])
    for layer in gated_layers(model.eval()).values():
        layer.lora_B.data.normal_()
    batch = batch_for("mlp", n=5, dtype=torch.float64)
    assert_scores_equal(replayed_scores(model, batch), plain_scores(model, batch), 1e-10)


class Flat(nn.Module):
    """Tokens in one long row, as mixtures of experts and unpadded models keep them."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(2, 8), nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x):
        h = self.norm(self.first(x.reshape(-1, 2)))
        return self.last(torch.tanh(h)).view(len(x), -1, 8).mean(dim=1)


def test_tokens_in_one_long_row_are_replayed_right():
    torch.manual_seed(0)
    model = Head(Flat()).double()
    inject_adapters(model, "alora-ablation", r=2, target_modules=["first", "last"])
    for layer in gated_layers(model.eval()).values():
        layer.lora_B.data.normal_()
    batch = batch_for("mlp", dtype=torch.float64)
    assert_scores_equal(replayed_scores(model, batch), plain_scores(model, batch), 1e-10)


class Experts(nn.Module):
    """Two adapted layers, each given the examples that a router sends to it, if any."""

    def __init__(self):
        super().__init__()
        self.first, self.router = nn.Linear(6, 8), nn.Linear(8, 3)
        self.expert = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        h = self.first(x)
        share = self.router(h).softmax(dim=-1)
        y = torch.zeros_like(h)
        for i, expert in enumerate(self.expert):
            sent = (share.argmax(dim=-1) == i).nonzero().flatten()
            if len(sent):
                y[sent] = torch.tanh(expert(h[sent])) * share[sent, i, None]
        return h + y


@pytest.mark.parametrize("seed", range(4))
def test_layers_that_a_router_chooses_are_replayed_right(seed):
    torch.manual_seed(seed)
    model = Head(Experts()).double()
    inject_adapters(model, "alora-ablation", r=2, target_modules=["first", "0", "1", "2"])
    for layer in gated_layers(model.eval()).values():
        layer.lora_B.data.normal_()
    batch = batch_for("mlp", n=6, seed=seed, dtype=torch.float64)
    assert_scores_equal(replayed_scores(model, batch), plain_scores(model, batch), 1e-10)


class Positions(nn.Module):
    """An adapted layer that reads what has no batch in it."""

    def __init__(self):
        super().__init__()
        self.where, self.what = nn.Linear(4, 8), nn.Linear(6, 8)

    def forward(self, x):
        return self.what(x) + self.where(torch.eye(4)).mean(dim=0)


def test_a_layer_whose_output_is_not_the_batchs_is_refused():
    model = Head(Positions())
    inject_adapters(model, "alora-ablation", r=2, target_modules=["where", "what"])
    with pytest.raises(ValueError, match=r"net.where has an output not of one entry an example"):
        replayed_scores(model.eval(), batch_for("mlp"))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.again = nn.Linear(6, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.again(torch.tanh(self.again(self.first(x))))


def test_a_layer_used_twice_is_refused_and_other_layers_beside_one_are_not():
    model = Head(Twice())
    inject_adapters(model, "alora-ablation", r=2, target_modules=["first", "again"])
    with pytest.raises(
        ValueError, match=r"net.again is used more than once in a forward pass"
    ) as caught:
        replayed_scores(model.eval(), batch_for("mlp"))
    assert "set copies to 0, which scores them by plain forward passes" in str(caught.value)
    assert "\n" not in str(caught.value)
    torch.manual_seed(0)
    model = Head(Twice()).double()
    inject_adapters(model, "alora-ablation", r=2, target_modules=["first"])
    model.eval().net.first.lora_B.data.normal_()
    batch = batch_for("mlp", dtype=torch.float64)
    assert_scores_equal(replayed_scores(model, batch), plain_scores(model, batch), 1e-10)


class ByName(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.unused = nn.Linear(6, 8), nn.Linear(6, 8)

    def forward(self, x):
        return self.first(x=x)


def test_a_layer_called_by_name_is_refused():
    model = Head(ByName())
    inject_adapters(model, "alora-ablation", r=2, target_modules=["first"])
    with pytest.raises(ValueError, match=r"net.first is given other than one tensor by its place"):
        replayed_scores(model.eval(), batch_for("mlp"))


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.unused = nn.Linear(6, 8), nn.Linear(6, 8)

    def forward(self, x):
        return self.first(x)


@pytest.mark.parametrize("targets", [["first", "unused"], ["unused"]])
def test_a_layer_that_the_model_never_calls_has_the_score_of_no_rank_at_all(targets):
    torch.manual_seed(0)
    model = Head(Unused()).double()
    inject_adapters(model, "alora-ablation", r=2, target_modules=targets)
    for layer in gated_layers(model.eval()).values():
        layer.lora_B.data.normal_()
    batch = batch_for("mlp", dtype=torch.float64)
    assert_scores_equal(replayed_scores(model, batch), plain_scores(model, batch), 1e-10)
