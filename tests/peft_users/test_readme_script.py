"""The ten lines that the README shows, run as they stand."""

from pathlib import Path

import peft
import pytest
import torch

from allora_lab import load_model, load_text
from allora_lab.peft import ALLoRALayer, load_adapter
from tests.peft_users.models import trainable

SCRIPT = (Path(__file__).parent / "readme_script.txt").read_text()

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"  # PEFT's own
)


def loss_on(model, tokenizer, split):
    words = tokenizer(list(split.texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        return model.eval()(**words, labels=torch.tensor(split.labels)).loss.item()


def test_it_has_ten_lines_and_learns_and_its_adapter_is_saved_and_loaded(tmp_path):
    assert len([line for line in SCRIPT.splitlines() if line]) <= 10
    assert max(map(len, SCRIPT.splitlines())) <= 100
    names = {}
    torch.manual_seed(0)
    exec(SCRIPT, names)  # noqa: S102
    model, tokenizer = names["model"], names["loaded"].tokenizer
    assert sum(isinstance(m, ALLoRALayer) for m in model.modules()) == 2 * 6
    assert names["optimizer"].eta_squared == 4.0
    split = load_text("rotten_tomatoes_rated").dev.first(64)
    untrained = load_model("minilm")
    after = loss_on(model, tokenizer, split)
    assert after < loss_on(untrained.model, tokenizer, split) - 0.01
    model.save_pretrained(tmp_path)
    plain = peft.PeftModel.from_pretrained(load_model("minilm", seed=3).model, tmp_path)
    assert loss_on(plain, tokenizer, split) == after
    again = load_adapter(load_model("minilm", seed=3).model, tmp_path)
    assert again.peft_config["default"].method == "allora-update"
    assert len(trainable(again)) == len(trainable(model))
