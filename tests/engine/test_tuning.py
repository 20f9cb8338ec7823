"""What each way of fine-tuning trains, and what stays as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glip.engine.trainer import Trainer
from glip.engine.tuning import LAST_LAYERS, TuningConfig, merged, prepare_tuning
from glip.errors import ConfigError
from glip.models.glip import GlipModel
from glip.predictor import Predictor
from tests.engine.test_trainer import config_of, data, start, weights_of
from tests.reference.tiny_models import TINY_TEXT, tiny_model

__all__ = ["data", "start"]  # fixtures


def tiny(**changes: Any) -> GlipModel:
    return tiny_model("csp", top_down=False, text=TINY_TEXT, **changes)


def trained_names(model: GlipModel) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def outputs(model: GlipModel) -> Tensor:
    torch.manual_seed(0)
    pixels, ids = torch.randn(1, 3, 64, 96), torch.tensor([[1, 5, 7, 2]])
    with torch.inference_mode():
        logits: Tensor = model.eval()(pixels, ids).alignment_logits
    return logits


def test_full_tuning_trains_everything_but_what_is_frozen() -> None:
    tuned = prepare_tuning(tiny(), TuningConfig(frozen=("text_encoder", "backbone.stem")))
    frozen = {name for name, _ in tuned.model.named_parameters()} - trained_names(tuned.model)
    assert {name.split(".")[0] for name in frozen} == {"text_encoder", "backbone"}
    tuned.train()
    assert tuned.model.training
    assert not tuned.model.text_encoder.training


def test_linear_probing_trains_the_published_list() -> None:
    tuned = prepare_tuning(tiny(), TuningConfig(mode="linear"))
    assert trained_names(tuned.model) == {
        "head.box.weight",
        "head.box.bias",
        "head.centerness.weight",
        "head.centerness.bias",
        "head.word_projection.weight",
        "head.word_projection.bias",
        "head.word_bias",
        "head.bias",
        "head.log_scale",
    }
    tuned.train()
    assert tuned.model.blocks.training  # as published: the tower's dropout stays on
    assert not tuned.model.backbone.training


def test_prompt_tuning_adds_zeros_and_trains_nothing_else() -> None:
    model = tiny()
    before = outputs(model)
    tuned = prepare_tuning(model, TuningConfig(mode="prompt", prompt_length=1000))
    assert trained_names(tuned.model) == {"text_prompt"}
    assert tuned.model.text_prompt is not None
    assert tuned.model.text_prompt.shape == (1000, TINY_TEXT["hidden_size"])
    torch.testing.assert_close(outputs(tuned.model), before, rtol=0, atol=0)
    with torch.no_grad():
        tuned.model.text_prompt[1].normal_()
    assert not torch.allclose(outputs(tuned.model), before)
    tuned.train()
    assert not tuned.model.training


def test_lora_adds_nothing_at_first_and_trains_itself_and_the_last_layers() -> None:
    model = tiny()
    before, head = outputs(model), {name for name, _ in model.named_parameters() if name.startswith(LAST_LAYERS)}
    tuned = prepare_tuning(model, TuningConfig(mode="lora", lora_rank=2))
    additions = {name for name in trained_names(tuned.model) if ".lora_" in name}
    assert trained_names(tuned.model) == additions | head
    assert {name.split(".")[0] for name in additions} == {"text_encoder", "blocks"}
    torch.testing.assert_close(outputs(tuned.model), before, rtol=0, atol=0)


def test_merged_additions_are_a_plain_model_that_gives_the_same() -> None:
    plain = tiny()
    names = {name for name, _ in plain.named_parameters()}
    tuned = prepare_tuning(plain, TuningConfig(mode="lora", lora_rank=2))
    with torch.no_grad():
        for name, parameter in tuned.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    changed = outputs(tuned.model)
    result = merged(tuned.model)
    assert {name for name, _ in result.named_parameters()} == names
    torch.testing.assert_close(outputs(result), changed, rtol=1e-4, atol=1e-4)
    assert any("lora_B" in name for name, _ in tuned.model.named_parameters())  # training may go on


def test_without_additions_merging_is_nothing() -> None:
    model = tiny()
    assert merged(model) is model


@pytest.mark.parametrize("mode", ["linear", "prompt", "lora"])
def test_a_run_leaves_a_model_that_loads_and_the_rest_as_it_was(
    mode: str, start: Path, data: Path, tmp_path: Path
) -> None:
    tuning = {"mode": mode, "lora_rank": 2}
    trainer = Trainer(config_of(start, data, tmp_path / "run", tuning=tuning, ema_decay=0.0))
    trainer.train()
    result = dict(Predictor.from_pretrained(tmp_path / "run" / "model").model.named_parameters())
    before = dict(GlipModel.from_pretrained(start).named_parameters())
    moved = {name for name in before if not torch.equal(result[name], before[name])}
    assert {name.split(".")[0] for name in moved} == {
        "linear": {"head"},
        "prompt": set(),
        "lora": {"head", "blocks", "text_encoder"},
    }[mode]
    assert ("text_prompt" in result) == (mode == "prompt")
    if mode == "prompt":
        assert result["text_prompt"].abs().sum() > 0


@pytest.mark.parametrize("mode", ["linear", "prompt", "lora"])
def test_an_interrupted_run_ends_with_the_same_weights(mode: str, start: Path, data: Path, tmp_path: Path) -> None:
    tuning = {"mode": mode, "lora_rank": 2}
    whole = Trainer(config_of(start, data, tmp_path / "whole", tuning=tuning))
    whole.train()
    Trainer(config_of(start, data, tmp_path / "halves", tuning=tuning, steps=2, schedule={"kind": "constant"}))
    first = Trainer(config_of(start, data, tmp_path / "halves", tuning=tuning))
    first.config.output.mkdir()
    batches = first._batches()
    for _ in range(2):
        first._train_step([next(batches)])
        first.step += 1
        first.average.update(first.model, first.step)
    first._save()
    second = Trainer(config_of(start, data, tmp_path / "halves", tuning=tuning))
    assert second.step == 2
    second.train()
    for name, weight in weights_of(whole).items():
        torch.testing.assert_close(weights_of(second)[name], weight, rtol=0, atol=0, msg=name)


def test_a_part_that_is_not_there_cannot_be_frozen() -> None:
    with pytest.raises(ConfigError, match=r"no part 'backbon'; name one of \['backbone', "):
        prepare_tuning(tiny(), TuningConfig(frozen=("backbon",)))


def test_a_model_that_has_a_prompt_keeps_it() -> None:
    model = tiny(prompt_length=300)
    assert prepare_tuning(model, TuningConfig(mode="prompt")).model is model
