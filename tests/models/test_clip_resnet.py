"""A modified ResNet halves its maps by averages, never by leaving positions out, and its norms do not learn."""

from typing import Any

import pytest
import torch
from torch import nn

from glip.clip_configuration import ResNetClipConfig
from glip.models.clip_resnet import Bottleneck, ConvNorm, ResNetClipModel

TINY: dict[str, Any] = {
    "text_width": 16,
    "text_layers": 1,
    "text_heads": 2,
    "vocab_size": 20,
    "max_tokens": 6,
    "embed_dim": 10,
    "image_size": 64,
    "image_width": 4,
    "image_layers": [1, 2, 1, 1],
    "image_heads": 4,
}


@pytest.fixture
def model() -> ResNetClipModel:
    torch.manual_seed(0)
    model = ResNetClipModel(ResNetClipConfig(**TINY))
    model.eval()
    return model


def fill(layer: ConvNorm, value: float) -> None:
    """Let a convolution multiply its middle with a number."""
    nn.init.zeros_(layer.conv.weight)
    middle = layer.conv.weight.shape[-1] // 2
    with torch.no_grad():
        layer.conv.weight[:, :, middle, middle] = value


def block_of(in_channels: int, *, stride: int) -> Bottleneck:
    """A block of width 1 that multiplies with 2, 3, 5, and its shortcut with 100."""
    block = Bottleneck(in_channels, 1, stride=stride)
    for layer, value in ((block.reduce, 2.0), (block.mix, 3.0), (block.expand, 5.0), (block.shortcut, 100.0)):
        if layer is not None:
            fill(layer, value)
    return block


def test_a_block_that_halves_its_map_takes_the_mean_on_both_ways() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])  # mean 3
    found = block_of(1, stride=2)(features)
    torch.testing.assert_close(found, torch.full((1, 4, 1, 1), 3 * (30.0 + 100.0)), rtol=1e-4, atol=0)


def test_a_block_that_keeps_its_map_but_not_its_channels_has_a_shortcut() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    found = block_of(1, stride=1)(features)
    torch.testing.assert_close(found, 130 * features.expand(1, 4, 2, 2), rtol=1e-4, atol=0)


def test_a_block_that_keeps_both_adds_to_its_input() -> None:
    features = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 4, 1, 1)
    found = block_of(4, stride=1)(features)
    torch.testing.assert_close(found.flatten(), torch.tensor([31.0, 30.0, 30.0, 30.0]), rtol=1e-4, atol=0)


def test_no_map_gives_none() -> None:
    assert block_of(1, stride=2)(torch.empty(0, 1, 4, 4)).shape == (0, 4, 2, 2)


def test_the_last_map_has_a_stride_of_32_and_32_times_the_width(model: ResNetClipModel) -> None:
    shapes: list[torch.Size] = []
    model.image_pool.register_forward_pre_hook(lambda _, arguments: shapes.append(arguments[0].shape))
    assert model.image_vectors(torch.randn(3, 3, 64, 64)).shape == (3, 10)
    assert shapes == [(3, 128, 2, 2)]


def test_a_batch_says_what_its_pictures_say_one_by_one(model: ResNetClipModel) -> None:
    images = torch.randn(2, 3, 64, 64)
    together = model.encode_images(images)
    for image, features in zip(images, together, strict=True):
        torch.testing.assert_close(model.encode_images(image[None])[0], features)


def test_training_changes_no_statistics(model: ResNetClipModel) -> None:
    images = torch.randn(2, 3, 64, 64)
    before = model.encode_images(images)
    assert torch.equal(model.train().encode_images(images), before)


def test_gradients_reach_every_parameter(model: ResNetClipModel) -> None:
    output = model(torch.randn(2, 3, 64, 64), torch.tensor([[1, 5, 19], [1, 19, 0]]))
    (output.logit_scale * output.image_features @ output.text_features.T).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
