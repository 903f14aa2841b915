"""Importance scores by brute force: zeros written into the factors."""

import torch

from allora_lab.allocation.places import gated_layers


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
