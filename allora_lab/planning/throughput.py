r"""How fast a step can be at best: floating-point operations a token, and a GPU's peak.

With P the entries of all pretrained matrices a token is multiplied by, a those of the adapters and the
head, T tokens a sentence, L layers and d the width of attention (heads × size of a head),

    forward   2 P + 2 a + 4 T d L
    backward  2 P + 4 a + 8 T d L

since a frozen matrix needs the gradient of its input and not its own: 4 P for a step, where training P
takes 6 P.  Attention counts half where it is causal.  Gradient checkpointing computes the forward
pass of the layers twice.  Embeddings are looked up and cost nothing; norms, activations and the
optimizer are left out, so peak / operations is a bound and not a forecast: real steps reach 20 to 60 %.
Counted a little too much: the lowest layer's input needs no gradient where embeddings are frozen, and
a pooler sees one token a sentence.  A mixture of experts is not counted by this rule.
"""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from allora_lab.adapters.inject import adapted_layers
from allora_lab.checks import require_known

SCORE_SIZE = 32  # sentences that score the ranks, as RunConfig's default


@dataclass(frozen=True, kw_only=True)
class GPU:
    """A graphics card: its memory in GiB, and its peak in TFLOPS by dtype.

    The makers' data sheets, without sparsity; float32 without TF32, as torch multiplies by default.
    """

    memory_gib: float
    tflops: dict[str, float]


GPUS: dict[str, GPU] = {
    "t4": GPU(memory_gib=15, tflops={"float32": 8.1, "bfloat16": 8.1}),  # no bfloat16 units
    "l4": GPU(memory_gib=22.5, tflops={"float32": 30.3, "bfloat16": 121}),
    "rtx3090": GPU(memory_gib=24, tflops={"float32": 35.6, "bfloat16": 71}),
    "rtx4090": GPU(memory_gib=24, tflops={"float32": 82.6, "bfloat16": 165.2}),
    "a100-40gb": GPU(memory_gib=40, tflops={"float32": 19.5, "bfloat16": 312}),
    "l40s": GPU(memory_gib=45, tflops={"float32": 91.6, "bfloat16": 362}),
    "a100-80gb": GPU(memory_gib=80, tflops={"float32": 19.5, "bfloat16": 312}),
    "h100": GPU(memory_gib=80, tflops={"float32": 67, "bfloat16": 989}),
    "h200": GPU(memory_gib=140, tflops={"float32": 67, "bfloat16": 989}),
}


def find_gpu(name: str) -> GPU:
    """Return a row of the table; ValueError for an unknown one, naming the nearest."""
    require_known("gpu", name, GPUS)
    return GPUS[name]


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Floating-point operations a token, of a forward pass and of a backward pass."""

    forward: float
    backward: float

    def step(self, is_checkpointed: bool = False) -> float:
        """Return those of a training step."""
        return self.backward + self.forward * (2 if is_checkpointed else 1)


def operations(model: PreTrainedModel, tokens: int) -> Operations:
    """Return the operations a token in sentences of `tokens` tokens, by the module's formula."""
    config = model.config.get_text_config()
    linear = {m for m in model.modules() if isinstance(m, nn.Linear | Conv1D)}
    frozen = sum(m.weight.numel() for m in linear if not m.weight.requires_grad)
    head = sum(m.weight.numel() for m in linear if m.weight.requires_grad)
    factors = sum(
        layer.lora_A.numel() + layer.lora_B.numel() for layer in adapted_layers(model).values()
    )
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    is_causal = any(getattr(module, "is_causal", False) for module in model.modules())
    attention = 4 * tokens * width * config.num_hidden_layers * (0.5 if is_causal else 1)
    trained = factors + head
    return Operations(
        forward=2 * frozen + 2 * trained + attention,
        backward=2 * frozen + 4 * trained + 2 * attention,
    )


@dataclass(frozen=True, kw_only=True)
class ScoringRound:
    """What a round of the rank allocator costs: R ranks, 2R + 1 forward passes, operations in all."""

    ranks: int
    forwards: int
    operations: float


def scoring_round(model: PreTrainedModel, tokens: int) -> ScoringRound:
    """Return the cost of one round by the definition, `allocation.importance.plain_scores`.

    Each of 2R + 1 forward passes (ALoRA, arXiv 2403.16187, eq. 6) is of 32 sentences.  A run scores by
    `allocation.replay`, which gives the same scores and computes only what lies above the masked layer:
    about half of this on average, or less.
    """
    ranks = sum(layer.r for layer in adapted_layers(model).values())
    forwards = 2 * ranks + 1
    one = operations(model, tokens).forward * SCORE_SIZE * tokens
    return ScoringRound(ranks=ranks, forwards=forwards, operations=forwards * one)
