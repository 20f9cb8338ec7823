"""The published variants have the official number of parameters, less the 20,560 of class logits that nothing reads."""

from collections.abc import Callable

import pytest
import torch

from glip.configuration import GlipConfig, glip_large, glip_resnet50, glip_tiny, glip_tiny_a
from glip.models.glip import GlipModel

CLASS_LOGITS = 80 * 256 + 80


@pytest.mark.parametrize(
    ("variant", "official"),
    [
        pytest.param(glip_tiny_a, 151_430_526, id="GLIP-T (A)"),
        pytest.param(glip_tiny, 231_780_222, id="GLIP-T (B), (C) and T"),
        pytest.param(glip_large, 430_422_384, id="GLIP-L"),
    ],
)
def test_the_number_of_parameters_of(variant: Callable[[], GlipConfig], official: int) -> None:
    with torch.device("meta"):
        model = GlipModel(variant())
    assert sum(parameter.numel() for parameter in model.parameters()) == official - CLASS_LOGITS


@pytest.mark.parametrize(
    ("part", "millions"),
    [
        pytest.param("backbone", 27.52, id="Swin"),
        pytest.param("fpn", 3.30, id="the pyramid"),
        pytest.param("text_encoder", 108.89, id="BERT"),
        pytest.param("blocks", 91.85, id="the fused tower"),
        pytest.param("head", 0.20, id="the heads without class logits"),
    ],
)
def test_the_millions_of_parameters_in_glip_t_of(part: str, millions: float) -> None:
    with torch.device("meta"):
        model = GlipModel(glip_tiny())
    count = sum(parameter.numel() for parameter in model.get_submodule(part).parameters())
    assert round(count / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("variant", "channels"),
    [
        pytest.param(glip_tiny, (192, 384, 768), id="Swin-T"),
        pytest.param(glip_large, (384, 768, 1536), id="Swin-L"),
        pytest.param(glip_resnet50, (512, 1024, 2048), id="ResNet-50"),
    ],
)
def test_the_pyramid_of_an_800_by_1344_image_from(variant: Callable[[], GlipConfig], channels: tuple[int, ...]) -> None:
    with torch.device("meta"):
        model = GlipModel(variant()).eval()
        levels = model.encode_image(torch.empty(1, 3, 800, 1344))
    assert model.backbone.channels == channels
    assert [tuple(level.shape) for level in levels] == [
        (1, 256, *size) for size in ((100, 168), (50, 84), (25, 42), (13, 21), (7, 11))
    ]
