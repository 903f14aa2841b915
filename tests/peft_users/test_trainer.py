"""transformers' Trainer on an ALLoRA model: the same numbers as a plain loop, checkpoints, the warning."""

import warnings

import peft
import pytest
import torch
from torch.optim import SGD, AdamW
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from allora_lab.peft import ALLoRACallback, load_adapter, wrap_update
from allora_lab.sidecar import Sidecar, read_sidecar
from tests.peft_users.models import (
    base_model,
    fresh,
    logits,
    loss_of,
    peft_model,
    trainable,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # PEFT's own
    pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning"),  # no GPU here
]

WORDS = torch.randint(3, 12, (12, 4), generator=torch.Generator().manual_seed(3))
ROWS = [{"input_ids": row, "labels": row[0] % 3} for row in WORDS]
LR = 0.01


def trainer(model, folder, optimizers=(None, None), **settings):
    defaults = {
        "per_device_train_batch_size": 2,
        "max_steps": 4,
        "learning_rate": LR,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch",
        "max_grad_norm": 0.0,
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "use_cpu": True,
        "seed": 0,
    }
    made = Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(folder), **{**defaults, **settings}),
        train_dataset=ROWS,
        optimizers=optimizers,
        callbacks=[ALLoRACallback()],
    )
    made.remove_callback(PrinterCallback)
    return made


def wrapped(model, build=AdamW):
    return wrap_update(build(trainable(model), lr=LR, weight_decay=0.0), model)


@pytest.mark.parametrize(("build", "accumulation"), [(AdamW, 1), (SGD, 2)])
def test_wrapped_it_repeats_a_plain_loop(tmp_path, build, accumulation):
    model, twin = peft_model("bert"), peft_model("bert")
    settings = {"gradient_accumulation_steps": accumulation, "max_steps": 3}
    run = trainer(model, tmp_path, (wrapped(model, build), None), **settings)
    seen = []
    model.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs["input_ids"].clone()), with_kwargs=True
    )
    run.train()
    assert len(seen) == 3 * accumulation
    optimizer = wrapped(twin, build)
    for start in range(0, len(seen), accumulation):
        optimizer.zero_grad()
        for words in seen[start : start + accumulation]:
            loss_of(twin, words).backward()  # Trainer adds up the losses of such a model
        optimizer.step()
    for one, other in zip(trainable(model), trainable(twin), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(logits(model), logits(peft_model("bert")), atol=1e-4)


def test_it_warns_of_trainers_own_adamw_at_the_start_and_not_of_sgd_or_a_wrapped_one(tmp_path):
    model = peft_model("bert")
    with pytest.warns(UserWarning, match="AdamW divides a gradient's scale out again"):
        trainer(model, tmp_path, max_steps=1).train()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        trainer(model, tmp_path, max_steps=1, optim="sgd").train()
        trainer(model, tmp_path, (wrapped(model), None), max_steps=1).train()


def test_a_checkpoint_holds_both_files_and_a_resumed_run_ends_as_the_whole_one(tmp_path):
    whole = peft_model("bert")
    settings = {"save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "linear"}
    trainer(whole, tmp_path, (wrapped(whole), None), **settings).train()
    checkpoint = tmp_path / "checkpoint-2"
    assert read_sidecar(checkpoint) == Sidecar(eta_squared=4.0, method="allora-update")
    resumed = peft_model("bert")
    run = trainer(resumed, tmp_path / "again", (wrapped(resumed), None), **settings)
    run.train(resume_from_checkpoint=str(checkpoint))
    assert run.state.global_step == 4
    for one, other in zip(trainable(resumed), trainable(whole), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    halfway = load_adapter(fresh(base_model("bert")), checkpoint)
    plain = peft.PeftModel.from_pretrained(fresh(base_model("bert")), checkpoint)
    assert torch.equal(logits(halfway), logits(plain))
    assert not torch.allclose(logits(halfway), logits(whole), atol=1e-4)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning")  # its old name
def test_with_bfloat16_and_checkpointed_activations_it_still_learns(tmp_path):
    model = peft_model("bert")
    before = sum(loss_of(model, WORDS[i : i + 2]) for i in range(0, 12, 2)).item()
    settings = {"bf16": True, "gradient_checkpointing": True, "max_steps": 12, "optim": "sgd"}
    trainer(model, tmp_path, **settings, learning_rate=0.3).train()
    after = sum(loss_of(model, WORDS[i : i + 2]) for i in range(0, 12, 2)).item()
    assert after < before
