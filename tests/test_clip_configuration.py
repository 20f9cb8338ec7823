"""Configs of CLIPs refuse what is unknown or impossible; a `ClipConfig` has the towers of a GLIP."""

from typing import Any

import pytest
import torch

from glip.clip_configuration import CLIP_VARIANTS, ClipConfig, ResNetClipConfig, VitClipConfig, clip_of
from glip.configuration import glip_nano
from glip.errors import ConfigError
from glip.models.clip import ClipModel


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        pytest.param(
            {"embed_dims": 3}, "ClipConfig: unknown field 'embed_dims'; did you mean 'embed_dim'", id="a name"
        ),
        pytest.param({"embed_dim": 0}, "embed_dim must be a whole number, at least 1, got 0", id="no width"),
        pytest.param({"max_tokens": "many"}, "max_tokens must be a whole number", id="a word for a number"),
        pytest.param({"image_pool": "max"}, "image_pool must be one of", id="an image pool"),
        pytest.param({"text_pool": "last"}, "text_pool must be one of", id="a text pool"),
        pytest.param({"initial_scale": 0.0}, "above 0 and at most 100", id="a scale of nothing"),
        pytest.param({"initial_scale": 101.0}, "above 0 and at most 100", id="a scale over the limit"),
        pytest.param({"initial_bias": "low"}, "must be a number or None", id="a word for the bias"),
        pytest.param({"backbone": {"kind": "vgg"}}, r"ClipConfig\.backbone\.kind must be one of", id="a backbone"),
        pytest.param({"text": {"hiden_size": 2}}, "did you mean 'hidden_size'", id="a name of the text encoder"),
    ],
)
def test_a_config_is_refused_for(numbers: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClipConfig(**numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "numbers", "message"),
    [
        pytest.param(
            VitClipConfig,
            {"patch_sise": 8},
            "VitClipConfig: unknown field 'patch_sise'; did you mean 'patch_size'",
            id="a vision transformer, of a name",
        ),
        pytest.param(
            VitClipConfig,
            {"image_size": 50},
            "VitClipConfig.image_size must be a multiple of patch_size, got 50 and 32",
            id="a vision transformer, of half a patch",
        ),
        pytest.param(
            ResNetClipConfig,
            {"patch_size": 8},
            "ResNetClipConfig: unknown field 'patch_size'",
            id="a ResNet, of the other tower's number",
        ),
        pytest.param(
            ResNetClipConfig,
            {"text_heads": 3},
            "must be a multiple of text_heads, got 512 and 3",
            id="a ResNet, of text heads",
        ),
        pytest.param(
            ResNetClipConfig,
            {"image_heads": 48},
            "image_width, taken 32 times, must be a multiple of image_heads, got 64 and 48",
            id="a ResNet, of image heads",
        ),
        pytest.param(
            ResNetClipConfig, {"image_size": 100}, "must be a multiple of 32, got 100", id="a ResNet, of its pictures"
        ),
        pytest.param(
            ResNetClipConfig, {"image_width": 7}, "image_width must be even, got 7", id="a ResNet, of an odd width"
        ),
        pytest.param(
            ResNetClipConfig,
            {"image_layers": [3, 4, 6]},
            "must be 4 whole numbers of at least 1",
            id="a ResNet, of three stages",
        ),
        pytest.param(
            ResNetClipConfig, {"image_layers": [3, 0, 6, 3]}, "at least 1, got", id="a ResNet, of an empty stage"
        ),
    ],
)
def test_a_published_config_is_refused_for(
    config: type[VitClipConfig | ResNetClipConfig], numbers: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**numbers)


def test_the_towers_are_those_of_a_glip() -> None:
    config = clip_of(glip_nano(), embed_dim=8)
    assert (config.backbone, config.text, config.embed_dim) == (glip_nano().backbone, glip_nano().text, 8)


@pytest.mark.parametrize("name", CLIP_VARIANTS)
def test_a_named_network_can_be_built(name: str) -> None:
    with torch.device("meta"):
        model = ClipModel(CLIP_VARIANTS[name]())
    assert model.image_projection.out_features == model.text_projection.out_features
