"""What each of several processes does in the tests: `torchrun ... launched.py FOLDER`.

Writes `rank<k>.json` into FOLDER, and the trained tensors of a tiny model as `rank<k>.safetensors`.
"""

import json
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from allora_lab import inject_adapters
from allora_lab.adapters.inject import adapter_state_dict
from allora_lab.data.answers import IGNORED
from allora_lab.training import loop
from allora_lab.training.checkpoint import save_checkpoint
from allora_lab.training.loop import train
from allora_lab.training.optimizers import build_optimizer
from allora_lab.training.processes import Processes, joined

STEPS, ROWS = 5, 6


def decoder() -> LlamaForCausalLM:
    """Return a tiny Llama with ALLoRA's adapters, whose B is not zero."""
    torch.manual_seed(1)
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads))
    inject_adapters(model, "allora", r=2, target_modules=["q_proj", "down_proj"])
    for name, tensor in model.named_parameters():
        if name.endswith("lora_B"):
            torch.nn.init.normal_(tensor, std=0.1)
    return model


def batch_at(step: int) -> dict[str, torch.Tensor]:
    """Return six rows whose answers have 1 to 6 tokens, so that shares differ in their labels."""
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(0, 40, (ROWS, 8), generator=generator)
    labels = ids.clone()
    for row in range(ROWS):
        labels[row, : 7 - row] = IGNORED
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def trained(
    processes: Processes, model: LlamaForCausalLM | None = None, **more: object
) -> tuple[LlamaForCausalLM, dict]:
    """Return the model after five steps, each process on its share, and what was traced."""
    model = model or decoder()
    optimizer = build_optimizer("sgd", model, lr=0.5, head_lr=0.5, weight_decay=0.0)
    calls = {"steps": STEPS, "seed": 0, "run_id": "tiny", "processes": processes, "clip_norm": 0.7}
    progress = train(
        model,
        optimizer,
        more.pop("batches", lambda step: processes.share(batch_at(step))),
        **{**calls, **more},
    )
    return model, {"done": progress.done, **progress.trace}


def refusal(processes: Processes) -> str:
    """Return what is said when the processes' models differ."""
    model = decoder()
    if not processes.is_first:
        model.get_parameter("model.layers.0.self_attn.q_proj.lora_B").data[0, 0] += 1e-6
    try:
        processes.require_same(model, 0)
    except ValueError as error:
        return str(error)
    return ""


def late(*arguments: object) -> None:
    """Save a checkpoint after a second."""
    time.sleep(1.0)
    save_checkpoint(*arguments)


def main(folder: Path) -> None:
    """Train, stop, and differ, and write down what came of it."""
    sent = []
    reduce = dist.all_reduce

    def counted(tensor: torch.Tensor, *rest: object, **more: object) -> object:
        sent.append(tensor.numel())
        return reduce(tensor, *rest, **more)

    with joined("cpu") as (processes, device):
        dist.all_reduce = counted
        model, trace = trained(processes)
        most = max(sent)
        loop.save_checkpoint = late  # a slow disk: no process may go on before it has written
        stopped = trained(
            processes,
            checkpoint=folder / "stopped.safetensors",
            should_stop=iter([False, False, not processes.is_first]).__next__,
        )[1]
        resumed, resumed_trace = trained(processes, checkpoint=folder / "stopped.safetensors")
        found = {
            "device": device,
            "trace": trace,
            "most_sent": most,
            "stopped_at": stopped["done"],
            "resumed_loss": resumed_trace["loss"],
            "refusal": refusal(processes),
        }
        name = f"rank{processes.rank}"
        save_file(adapter_state_dict(model), folder / f"{name}.safetensors")
        save_file(adapter_state_dict(resumed), folder / f"{name}-resumed.safetensors")
        (folder / f"{name}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
