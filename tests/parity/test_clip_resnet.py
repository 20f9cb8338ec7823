"""A CLIP with a ResNet says what open_clip says of the same numbers, to 1e-5.

Recorded by `python -m tests.parity.make_clip_resnet`, in an environment that has open_clip.
"""

import json
from pathlib import Path

import pytest
import torch

from glip.models.clip_resnet import ResNetClipModel
from tests.reference import published_resnet as tiny

RECORD = json.loads((Path(__file__).parent / "data" / "clip_resnet.json").read_text())


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_resnet_clip_says_what_open_clip_says_with(activation: str, tmp_path: Path) -> None:
    torch.save(tiny.weights(tiny.tiny_shapes()), tmp_path / "clip.pt")
    quick_gelu = activation == "quick_gelu"
    model = ResNetClipModel.from_openai(tmp_path / "clip.pt", quick_gelu=quick_gelu, head_width=tiny.TINY_HEAD_WIDTH)
    with torch.no_grad():
        found = model(tiny.pictures(), tiny.texts())
    expected = {name: torch.tensor(numbers) for name, numbers in RECORD[activation].items()}
    torch.testing.assert_close(found.image_features, expected["image_features"], rtol=0, atol=1e-5)
    torch.testing.assert_close(found.text_features, expected["text_features"], rtol=0, atol=1e-5)
    logits = found.logit_scale * found.image_features @ found.text_features.T
    torch.testing.assert_close(logits, expected["logits"], rtol=0, atol=1e-5)


def test_the_recorded_pictures_and_texts_differ() -> None:
    for name in ("image_features", "text_features"):
        first, second = torch.tensor(RECORD["quick_gelu"][name])
        assert (first - second).abs().max() > 0.05
