"""AB-LoRA's scores: the definition against weights set to zero, and the replay against the definition."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from allora_lab import inject_adapters
from allora_lab.allocation.importance import masked, negative_cross_entropy, plain_scores
from allora_lab.allocation.places import gated_layers
from allora_lab.allocation.recording import forwards
from allora_lab.allocation.replay import replayed_scores
from allora_lab.allocation.resize import resize_ranks

from .brute import assert_scores_equal, brute_scores
from .tiny import MODELS, Head, adapted, batch_for, text_batch


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


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        *(("bert", "query"), ("gpt2", "c_attn"), ("llama", "q_proj")),
        *(("bert", "dense"), ("gpt2", "c_proj"), ("llama", "down_proj")),
    ],
)
def test_any_choice_of_layers_is_replayed_right(kind, target):
    model = adapted(kind, dtype=torch.float64, target_modules=[target])
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
