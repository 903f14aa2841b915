"""The network of the gradient-variance study: three linear layers with ReLU and dropout.

The paper (arXiv 2410.09692, Figure 1) says "a MLP" and no more; here it is
d -> width -> width -> classes with dropout on both hidden activations.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from allora_lab.checks import require_at_least, require_probability


class MLP(nn.Module):
    """relu and dropout after each of the first two layers; the third gives the logits.

    Parameters
    ----------
    d, width, classes
        Inputs, units of each hidden layer, and outputs.
    dropout
        Probability of *dropping* a hidden unit (the paper's p is the probability of keeping one).
    generator
        Draws the start: weights and biases uniform in ±1/√fan_in, as `nn.Linear` does itself.
    """

    def __init__(
        self, d: int, width: int, classes: int, dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        for name, size in (("d", d), ("width", width), ("classes", classes)):
            require_at_least(name, size, 1)
        require_probability("dropout", dropout)
        self.layer1 = nn.Linear(d, width)
        self.layer2 = nn.Linear(width, width)
        self.layer3 = nn.Linear(width, classes)
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            for layer in (self.layer1, self.layer2, self.layer3):
                bound = layer.in_features**-0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)

    def forward(self, X: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        """Return the logits; masks are drawn from torch's own generator while in training mode."""
        D1 = self.dropout(torch.relu(self.layer1(X)))
        D2 = self.dropout(torch.relu(self.layer2(D1)))
        return self.layer3(D2)
