"""The gradient's spread over dropout masks: ours against a loop of autograd, in one run.

Batch 128, both hidden layers 512 wide, dropout 0.5, 256 masks, on as many threads as torch has (set
OMP_NUM_THREADS).  The loop is the obvious way: model(x) with nn.Dropout and loss.backward() a mask,
all parameters requiring grad, and Welford's update of the moments in float64.  "backward alone"
leaves the moments out.  The contenders take turns and every ratio is of one round.  Inputs are
random and as long as MNIST's (784) and CIFAR-10's (3,072), which matters to the loop alone: ours
computes the first layer once.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from common import describe_ratio, parse, write_figures

from allora_lab.experiments.variance_runs import weights_of
from allora_lab.models.mlp import MLP
from allora_lab.theory.gradient_variance import gradient_moments

MASKS, BATCH, WIDTH, CLASSES, DROPOUT = 256, 128, 512, 10, 0.5
INPUTS = {"MNIST's 784 inputs": 784, "CIFAR-10's 3,072 inputs": 3072}


def loop(
    model: MLP, X: torch.Tensor, labels: torch.Tensor, masks: int, *, with_moments: bool
) -> torch.Tensor | None:
    """Return the std over masks, one forward and one backward pass a mask; None without moments."""
    mean = squares = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
    squares = squares.clone()
    for count in range(1, masks + 1):
        model.zero_grad()
        F.cross_entropy(model(X), labels).backward()
        if with_moments:
            gradient = model.layer2.weight.grad.double()
            delta = gradient - mean
            mean = mean + delta / count
            squares += delta * (gradient - mean)
    return (squares / (masks - 1)).sqrt() if with_moments else None


def ours(model: MLP, X: torch.Tensor, labels: torch.Tensor, masks: int) -> torch.Tensor:
    """Return the std over masks from the streaming moments."""
    generator = torch.Generator().manual_seed(0)
    moments = gradient_moments(
        weights_of(model), X, labels, keep=1 - DROPOUT, n_masks=masks, generator=generator
    )
    return moments.std()


def contenders(d: int, masks: int) -> dict[str, Callable[[], torch.Tensor | None]]:
    """Return what is timed, each on the same network and images of d random inputs."""
    generator = torch.Generator().manual_seed(0)
    model = MLP(d, WIDTH, CLASSES, DROPOUT, generator).train()
    X = torch.randn(BATCH, d, generator=generator)
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    return {
        "ours": partial(ours, model, X, labels, masks),
        "loop": partial(loop, model, X, labels, masks, with_moments=True),
        "backward alone": partial(loop, model, X, labels, masks, with_moments=False),
    }


def main() -> None:
    """Print milliseconds a mask and ratios, and whether the two find the same spread."""
    options = parse(__doc__.splitlines()[0], rounds=6)
    figures, masks = {}, 4 if options.tiny else MASKS
    print(f"{masks} masks, batch {BATCH}, {WIDTH} x {WIDTH}, {torch.get_num_threads()} thread(s)")
    for name, d in INPUTS.items():
        runs = contenders(d, masks)
        runs["ours"]()  # warm-up
        seconds: dict[str, list[float]] = {key: [] for key in runs}
        found: dict[str, torch.Tensor | None] = {}
        for _ in range(options.rounds):
            for key, run in runs.items():
                start = time.perf_counter()
                found[key] = run()
                seconds[key].append(time.perf_counter() - start)
        print(name)
        for key, values in seconds.items():
            ratios = [b / a for a, b in zip(seconds["ours"], values, strict=True)]
            each = 1000 * statistics.median(values) / masks
            print(f"  {key:16}{each:7.2f} ms a mask   {describe_ratio(ratios)} times ours")
        off = (found["ours"].mean() / found["loop"].mean() - 1).item()
        print(f"  mean over entries of the std: ours is {off:+.2%} off the loop's, other masks")
        figures.update({f"{key}, {name}": values for key, values in seconds.items()})
    compared = "the spread of a gradient over dropout masks: ours, and a loop of autograd calls"
    setting = {"masks": masks, "batch": BATCH, "width": WIDTH, "dropout": DROPOUT}
    write_figures(
        options.json,
        {"compared": compared, "unit": "seconds", "measured": figures, "setting": setting},
    )


if __name__ == "__main__":
    main()
