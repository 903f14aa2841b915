"""The numbers of the figure `ripple`: random stacks of layers, and the recorded real model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from allora_lab.experiments.ripple_records import RippleRecord, recorded_ripples
from allora_lab.theory.ripple import ARCHITECTURES, growth_bound, mean_square_norm, norm_bound
from allora_lab.theory.ripple_network import (
    aligned_network,
    growth,
    hidden_states,
    random_factors,
    random_weights,
    relative_change,
)

WIDTH, RANK, DEEPEST, NETWORKS = 64, 4, 48, 32
L, RATIO, SCALING = 24, 0.3, 2.0  # what the figure and the notebook quote


@dataclass(frozen=True, eq=False)
class RippleCase:
    """n random networks: orthogonal W, random A and B with ||BA|| = 1, inputs of length √d."""

    W: Float[Tensor, "n L d d"]
    A: Float[Tensor, "n L r d"]
    B: Float[Tensor, "n L d r"]
    x: Float[Tensor, "n d"]
    others: Float[Tensor, "n L 2 d"]


@lru_cache(maxsize=2)
def ripple_case(seed: int = 0) -> RippleCase:
    """Return NETWORKS networks of width 64 and 48 layers with adapters of rank 4, drawn once per seed.

    Panel, notebook, figure and claims take their medians over these same networks.
    """
    generator = torch.Generator().manual_seed(seed)
    W = random_weights(NETWORKS, DEEPEST, WIDTH, generator)
    A, B = random_factors(NETWORKS, DEEPEST, WIDTH, RANK, generator)
    draw = {"generator": generator, "dtype": torch.float64}
    x = WIDTH**0.5 * F.normalize(torch.randn(NETWORKS, WIDTH, **draw), dim=-1)
    return RippleCase(W, A, B, x, torch.randn(NETWORKS, DEEPEST, 2, WIDTH, **draw))


@lru_cache(maxsize=32)
def random_states(
    case: RippleCase, architecture: str, scaling: float, ratio: float
) -> Float[Tensor, "n depths d"]:
    """Return the hidden states under random adapters with ||BA|| = m; kept, for panels ask again."""
    return hidden_states(architecture, case.x, case.W, case.A, ratio * case.B, scaling)


@lru_cache(maxsize=32)
def aligned_states(
    case: RippleCase, architecture: str, scaling: float, ratio: float, alignment: float
) -> Float[Tensor, "n depths d"]:
    """Return the hidden states under rank-one adapters at a cosine with the signal; kept."""
    at = {"ratio": ratio, "scaling": scaling, "alignment": alignment}
    return aligned_network(architecture, case.x, case.W, case.others, **at)[2]


def ripple_curves(
    case: RippleCase, architecture: str, *, scaling: float, ratio: float, alignment: float
) -> dict[str, list[float]]:
    """Return curves over depth 0 to L, medians over the networks but for the law.

    `bound` is what the triangle inequality allows of ||h_s|| / ||h_0||; `aligned` and `random` are
    measured, for adapters at a cosine with the signal and for random ones; `law` is the root of the
    ratio of the mean squares expected for random ones; `aligned_change` and `random_change` are
    ||h_s - h_0|| / ||h_0||.
    """
    plain = random_states(case, architecture, 0.0, ratio=1.0)
    random = random_states(case, architecture, scaling, ratio)
    aligned = aligned_states(case, architecture, scaling, ratio, alignment)
    ones, d = torch.ones(DEEPEST, dtype=torch.float64), case.W.shape[-1]
    curves = {
        "bound": norm_bound(architecture, ones, ratio * ones, scaling, d) / plain.norm(dim=-1),
        "aligned": growth(aligned, plain),
        "random": growth(random, plain),
        "aligned_change": relative_change(aligned, plain),
        "random_change": relative_change(random, plain),
    }
    found = {name: values.quantile(0.5, dim=0).tolist() for name, values in curves.items()}
    return {**found, "law": random_law(case, architecture, scaling=scaling, ratio=ratio)}


@lru_cache(maxsize=4)
def frobenius_squares(case: RippleCase) -> Float[Tensor, " L"]:
    """Return ||B_l A_l||_F² of each layer, the mean over the networks."""
    return (case.B @ case.A).square().sum(dim=(-2, -1)).mean(dim=0)


def random_law(case: RippleCase, architecture: str, *, scaling: float, ratio: float) -> list[float]:
    """Return √(E||h_s||² / E||h_0||²) over depth, with ||BA||_F² averaged over the networks."""
    d, ones = case.W.shape[-1], torch.ones(DEEPEST, dtype=torch.float64)
    ratios = ratio**2 * frobenius_squares(case) / d  # ||W||_F² = d
    adapted = mean_square_norm(architecture, ones, ratios, scaling, d)
    return (adapted / mean_square_norm(architecture, ones, ratios, 0.0, d)).sqrt().tolist()


def layer_bound(record: RippleRecord, scaling: float) -> list[float]:
    """Return Π (1 + s m_l) after each layer of a recorded model, over all its adapted matrices.

    The paper has one matrix a layer; MiniLM has two adapted ones, and both factors are taken.
    """
    ratios = [row["adapter_norm"] / row["weight_norm"] for row in record.adapters.values()]
    layers = len(record.scaled[0]["growth"]["mean"]) - 1
    each = growth_bound(torch.tensor(ratios, dtype=torch.float64), scaling)
    return each[:: len(ratios) // layers].tolist()


def model_rows(records: Sequence[RippleRecord]) -> list[dict[str, Any]]:
    """Return, for each scaling, means over the seeds of what the records hold, depth by depth.

    `low` and `high` are the 5 and 95 % quantiles over tokens; `accuracies` has one value a seed.
    """
    rows = []
    for index, first in enumerate(records[0].scaled if records else []):
        same = [record.scaled[index] for record in records]
        row: dict[str, Any] = {
            "scaling": first["scaling"],
            "bound": _mean([layer_bound(record, first["scaling"]) for record in records]),
            "accuracies": [r["accuracy"] for r in same],
        }
        for name in ("growth", "change"):
            quantiles = np.array([r[name]["quantiles"] for r in same])
            row[name] = _mean([r[name]["mean"] for r in same])
            row[f"{name}_low"] = _mean(quantiles[:, :, 0])
            row[f"{name}_high"] = _mean(quantiles[:, :, -1])
        rows.append(row)
    return rows


def _mean(values: Any) -> list[float]:
    return np.mean(values, axis=0).tolist()


def ripple_content(seed: int = 0) -> dict[str, Any]:
    """Return the content of `ripple.json`: the stacks' curves, the real model, and the sentences."""
    case = ripple_case(seed)
    setting = {"scaling": SCALING, "ratio": RATIO}

    def curves(name: str, alignment: float) -> dict[str, list[float]]:
        found = ripple_curves(case, name, alignment=alignment, **setting)
        return {key: values[: L + 1] for key, values in found.items()}

    records = recorded_ripples()
    content = {
        "setting": {**setting, "L": L, "d": WIDTH, "r": RANK, "networks": NETWORKS, "seed": seed},
        "stacks": {name: curves(name, 1.0) for name in ARCHITECTURES},
        "half_aligned": curves("multi-linear", 0.5)["aligned"],
        "model": model_rows(records),
        "model_seeds": [record.config["seed"] for record in records],
    }
    return {**content, "sentences": ripple_sentences(content)}


def ripple_sentences(content: Mapping[str, Any]) -> list[str]:
    """Return what the numbers say: of the stacks, of the LayerNorm, and of the recorded model."""
    setting, stacks = content["setting"], content["stacks"]
    plain, post = stacks["multi-linear"], stacks["post-layernorm"]
    bounds = (
        f"With s = {setting['scaling']:g}, m = {setting['ratio']:g} and {setting['L']} layers the "
        f"bound is {plain['bound'][-1]:.3g}: aligned adapters grow the output "
        f"{plain['aligned'][-1]:.3g} times, random ones {plain['random'][-1]:.2f} times, though "
        f"they move it by {100 * plain['random_change'][-1]:.0f} % of its length."
    )
    norms = (
        f"With a LayerNorm after every layer the growth is {post['random'][-1]:.2f} whatever the "
        f"adapter; random ones still move the output by {100 * post['random_change'][-1]:.0f} %."
    )
    return [bounds, norms, *_model_sentence(content)]


def _model_sentence(content: Mapping[str, Any]) -> list[str]:
    if not content["model"]:
        return []
    last = content["model"][-1]
    trained = next(row for row in content["model"] if row["scaling"] == 1)
    sentence = (
        f"MiniLM after a fine-tune, {len(content['model_seeds'])} seeds: at s = "
        f"{last['scaling']:g} the bound is {last['bound'][-1]:.2g} and the words' last hidden "
        f"states grow {last['growth'][-1]:.2f} times; accuracy is "
        f"{np.mean(last['accuracies']):.3f}, where it is {np.mean(trained['accuracies']):.3f} at "
        f"s = 1."
    )
    return [sentence]
