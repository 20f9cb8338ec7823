"""A GLIP run can start with the encoders of a trained CLIP; encoders that do not fit are refused before any work."""

from pathlib import Path

import pytest
import torch

from glip.engine.trainer import starting_point
from glip.errors import CheckpointError
from tests.engine.test_trainer import BERT_VOCABULARY, config_of, data, start
from tests.reference.tiny_models import TINY_TEXT, tiny_clip

__all__ = ["data", "start"]  # fixtures


def saved_clip(folder: Path, kind: str) -> Path:
    model = tiny_clip(kind, text={**TINY_TEXT, "vocab_size": BERT_VOCABULARY})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    model.save_pretrained(folder)
    return folder


def test_a_glip_run_starts_with_a_clips_encoders(start: Path, data: Path, tmp_path: Path) -> None:
    towers = saved_clip(tmp_path / "clip", "csp")
    plain, _ = starting_point(config_of(start, data, tmp_path / "run"))
    model, _ = starting_point(config_of(start, data, tmp_path / "run", towers=towers))
    clip = tiny_clip("csp", text={**TINY_TEXT, "vocab_size": BERT_VOCABULARY}).state_dict()
    for name, tensor in model.state_dict().items():
        if name.startswith(("backbone.", "text_encoder.")):
            expected = clip[name] + 0.01 if tensor.is_floating_point() else clip[name]
            torch.testing.assert_close(tensor, expected, msg=name)
        else:
            assert torch.equal(tensor, plain.state_dict()[name]), name


def test_other_encoders_are_refused(start: Path, data: Path, tmp_path: Path) -> None:
    towers = saved_clip(tmp_path / "clip", "resnet")
    with pytest.raises(CheckpointError, match="give both the same encoders"):
        starting_point(config_of(start, data, tmp_path / "run", towers=towers))
