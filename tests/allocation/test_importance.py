"""AB-LoRA's scores: the definition against weights set to zero, and the replay against the definition."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from allora_lab import inject_adapters
from allora_lab.allocation.importance import masked, negative_cross_entropy, plain_scores
from allora_lab.allocation.places import gated_layers
from allora_lab.allocation.reach import rows_read
from allora_lab.allocation.recording import forwards, unchanged
from allora_lab.allocation.replay import Replayer, replayed_scores
from allora_lab.allocation.resize import resize_ranks

from .tiny import MODELS, Head, adapted, batch_for, text_batch


def brute_scores(model, batch):
    """Return IS by writing zeros into the factors, and the loss the model itself gives."""
    layers = gated_layers(model)
    whole = {n: m.lora_B.detach().clone() for n, m in layers.items()}

    @torch.no_grad()
    def score(columns):
        for name, layer in layers.items():
            layer.lora_B.zero_()
            layer.lora_B[:, columns[name]] = whole[name][:, columns[name]]
        loss = model(**batch).loss.item()
        for name, layer in layers.items():
            layer.lora_B.copy_(whole[name])
        return -loss

    every = {n: list(range(m.r)) for n, m in layers.items()}
    none = {n: [] for n in layers}
    found = {}
    for name, layer in layers.items():
        row = [
            score(every)
            - score({**every, name: [j for j in range(layer.r) if j != k]})
            + score({**none, name: [k]})
            for k in range(layer.r)
        ]
        found[name] = torch.tensor(row, dtype=torch.float64)
    return found


def assert_scores_equal(found, expected, within=1e-6):
    assert list(found) == list(expected)
    for name, row in expected.items():
        assert row.dtype == found[name].dtype == torch.float64
        torch.testing.assert_close(found[name], row, rtol=0, atol=within)


def test_the_score_of_a_batch_is_its_mean_log_likelihood():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [0.0, 0.0], [math.log(3), 0.0]])
    labels = torch.tensor([0, 1])
    torch.testing.assert_close(
        negative_cross_entropy(logits[:2], labels),
        torch.tensor([(math.log(1 / 2) + math.log(1 / 4)) / 2], dtype=torch.float64),
    )
    twice = negative_cross_entropy(logits, labels, 2)
    assert twice.shape == (2,)
    assert twice[0] == twice[1]


def test_three_scores_by_hand():
    # one layer, x = 1, W = 0, two classes: logits (B_1 + B_2) and S = log softmax of the label 0
    model = Head(nn.Sequential(nn.Linear(1, 3)), d=3).double()
    inject_adapters(model, "alora-ablation", r=1, target_modules=["0"])
    layer = model.eval().net[0]
    resize_ranks(gated_layers(model), {"net.0": [0]}, {"net.0": 1})
    with torch.no_grad():
        layer.base_layer.weight.zero_()
        layer.base_layer.bias.zero_()
        layer.lora_A.fill_(1.0)
        layer.lora_B.copy_(torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, -3.0]]))
        model.classifier.weight.copy_(torch.eye(3))
        model.classifier.bias.zero_()

    def S(a, c):
        return a - math.log(math.exp(a) + 1 + math.exp(c))

    batch = {"x": torch.ones(1, 1, dtype=torch.float64), "labels": torch.tensor([0])}
    expected = [S(3, -3) - S(2, -3) + S(1, 0), S(3, -3) - S(1, 0) + S(2, -3)]
    for scores in (plain_scores(model, batch), replayed_scores(model, batch)):
        assert scores["net.0"].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "mlp"])
def test_plain_scores_are_those_of_a_model_with_zeros_in_its_weights(kind):
    model, batch = adapted(kind, dtype=torch.float64), batch_for(kind, dtype=torch.float64)
    assert_scores_equal(plain_scores(model, batch), brute_scores(model, batch), 1e-12)


@pytest.mark.parametrize("kind", MODELS)
def test_replayed_scores_are_the_plain_ones(kind):
    for dtype, within in ((torch.float64, 1e-10), (torch.float32, 1e-6)):
        model, batch = adapted(kind, dtype=dtype), batch_for(kind, dtype=dtype)
        plain = plain_scores(model, batch)
        assert torch.cat(list(plain.values())).std() > 3e-4  # they do differ
        assert_scores_equal(replayed_scores(model, batch), plain, within)


@pytest.mark.parametrize("copies", [1, 2, 3, 4, 100])
def test_how_many_masks_go_together_changes_no_score(copies):
    model, batch = adapted("bert", dtype=torch.float64), text_batch()
    assert_scores_equal(
        replayed_scores(model, batch, copies=copies), plain_scores(model, batch), 1e-10
    )


@pytest.mark.parametrize("method", ["alora-dnas", "sora", "adalora"])
def test_trained_gates_are_part_of_what_is_masked(method):
    model, batch = adapted("bert", method, dtype=torch.float64), text_batch()
    assert_scores_equal(replayed_scores(model, batch), plain_scores(model, batch), 1e-10)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize(
    "targets", [["query", "c_attn", "q_proj"], ["dense", "c_proj", "down_proj"]]
)
def test_any_choice_of_layers_is_replayed_right(kind, targets):
    model = adapted(kind, dtype=torch.float64, target_modules=targets)
    batch = text_batch(n=3, seed=4)
    assert_scores_equal(replayed_scores(model, batch), plain_scores(model, batch), 1e-10)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "distilbert"])
@pytest.mark.parametrize("shape", ["as many examples as tokens", "one example", "nothing padded"])
def test_any_shape_of_batch_is_replayed_right(kind, shape):
    n = {"as many examples as tokens": 7, "one example": 1, "nothing padded": 4}[shape]
    batch = text_batch(
        n, seed=2, lengths=[7] * n if shape == "nothing padded" else [7, *[5] * (n - 1)]
    )
    model = adapted(kind, dtype=torch.float64)
    assert_scores_equal(replayed_scores(model, batch), plain_scores(model, batch), 1e-10)


def test_uneven_ranks_empty_layers_and_new_ranks_are_scored_right():
    model, batch = adapted("bert", dtype=torch.float64), text_batch()
    layers = gated_layers(model)
    keep = {n: list(range(i % 4)) for i, n in enumerate(layers)}
    resize_ranks(layers, keep, {n: (i // 2) % 3 for i, n in enumerate(layers)})
    assert {0, 1, 2, 3} <= {m.r for m in layers.values()}
    plain = plain_scores(model, batch)
    assert_scores_equal(replayed_scores(model, batch), plain, 1e-10)
    assert_scores_equal(plain, brute_scores(model, batch), 1e-12)
    with torch.no_grad():
        without = {n: m.lora_A.new_zeros(m.r) for n, m in layers.items()}
        with masked(layers, without):
            base = -model(**batch).loss.item()
    for i, (name, layer) in enumerate(layers.items()):
        for k in range(len(keep[name]), layer.r):  # B = 0, so S(M) - S(M\r) = 0 and M_r is bare
            assert plain[name][k].item() == pytest.approx(base, abs=1e-12), (i, name, k)


def test_a_model_whose_ranks_are_all_gone_has_no_scores():
    model, batch = adapted("bert"), text_batch()
    layers = gated_layers(model)
    resize_ranks(layers, {n: [] for n in layers}, dict.fromkeys(layers, 0))
    for scores in (plain_scores(model, batch), replayed_scores(model, batch)):
        assert all(row.shape == (0,) for row in scores.values())


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


def test_half_precision_is_refused_by_the_replay():
    model = adapted("bert", dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="is in half precision, which hides a rank"):
        replayed_scores(model, text_batch())


@pytest.mark.parametrize("scores", [plain_scores, replayed_scores])
def test_what_cannot_be_scored_is_one_sentence(scores):
    model, batch = adapted("bert"), text_batch()
    bad = [
        ({k: v[:0] for k, v in batch.items()}, "is empty: give it at least one example"),
        ({k: v for k, v in batch.items() if k != "labels"}, "needs labels"),
    ]
    for broken, message in bad:
        with pytest.raises(ValueError, match=message) as caught:
            scores(model, broken)
        assert "\n" not in str(caught.value)
    model.bert.encoder.layer[0].train()
    with pytest.raises(ValueError, match=r"is in training mode.*call model.eval"):
        scores(model, batch)
    with pytest.raises(ValueError, match="has no gated layers"):
        scores(MODELS["bert"]().eval(), batch)


def test_no_copies_are_refused():
    with pytest.raises(ValueError, match="copies must be at least 1, got 0"):
        replayed_scores(adapted("bert"), text_batch(), copies=0)


@pytest.mark.parametrize("scores", [plain_scores, replayed_scores])
def test_scoring_leaves_the_model_as_it_was(scores):
    model, batch = adapted("bert"), text_batch()
    for layer in gated_layers(model).values():
        layer.lora_A.grad = torch.full_like(layer.lora_A, 2.0)
    state = {n: t.clone() for n, t in model.state_dict().items()}
    instances = {n: set(vars(m)) for n, m in model.named_modules()}
    random, kept = torch.get_rng_state(), {k: v.clone() for k, v in batch.items()}
    first = scores(model, batch)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())
    assert all(torch.equal(batch[k], v) for k, v in kept.items())
    assert not any(m.training for m in model.modules())
    assert {n: set(vars(m)) for n, m in model.named_modules()} == instances
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for layer in gated_layers(model).values():
        assert layer.lora_B.grad is None
        assert (layer.lora_A.grad == 2.0).all()
        assert layer.lora_A.requires_grad
    second = scores(model, batch)
    assert all(torch.equal(first[n], second[n]) for n in first)


class Broken(nn.Module):
    def forward(self, x):
        raise RuntimeError("on purpose")


@pytest.mark.parametrize("scores", [plain_scores, replayed_scores])
def test_forwards_are_restored_after_an_exception(scores):
    model, batch = adapted("bert"), text_batch()
    instances = {n: set(vars(m)) for n, m in model.named_modules()}
    whole = model.classifier
    model.classifier = Broken().eval()
    with pytest.raises(RuntimeError, match="on purpose"):
        scores(model, batch)
    model.classifier = whole
    assert {n: set(vars(m)) for n, m in model.named_modules()} == instances
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert "gates" not in {k for m in model.modules() for k in vars(m)}


def test_a_forward_that_was_someone_elses_is_given_back():
    model = nn.ModuleDict({"query": nn.Linear(2, 2), "value": nn.Linear(2, 2)})
    model["query"].forward = mine = lambda x: x
    with forwards(model, {"query": torch.neg, "value": torch.neg}):
        assert model["query"](torch.ones(2)).tolist() == [-1, -1]
    assert model["query"].forward is mine
    assert "forward" not in vars(model["value"])


def test_scores_are_of_the_batch_and_not_of_its_order_or_padding():
    model, batch = adapted("bert", dtype=torch.float64), text_batch()
    turned = {k: v.flip(0) for k, v in batch.items()}
    assert_scores_equal(replayed_scores(model, turned), replayed_scores(model, batch), 1e-10)
    wider = {k: F.pad(v, (0, 3)) if v.dim() == 2 else v for k, v in batch.items()}
    assert_scores_equal(replayed_scores(model, wider), replayed_scores(model, batch), 1e-10)
