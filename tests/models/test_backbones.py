"""Every kind of backbone gives three maps at strides 8, 16 and 32, of the channels that it says, or says why not."""

from typing import Any

import pytest
import torch
from torch import nn

from glip.errors import ConfigError
from glip.models.backbones import build_backbone
from glip.models.backbones.csp import CspPan, CspStage
from tests.reference.tiny_models import TINY_BACKBONES, random_images

KINDS = [pytest.param(kind, id=kind) for kind in TINY_BACKBONES]
CHANNELS = {
    "swin": (24, 48, 96),
    "resnet": (512, 1024, 2048),
    "csp": (32, 32, 32),
    "timm": (48, 192, 96),
    "transformers": (12, 16, 24),
}


def make_backbone(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(TINY_BACKBONES[kind]).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_maps_have_the_strides_and_the_channels_it_says(kind: str) -> None:
    backbone = make_backbone(kind)
    assert tuple(backbone.channels) == CHANNELS[kind]  # type: ignore[arg-type]
    maps = backbone(random_images(2, 64, 96))
    sizes = [(2, width, 64 // stride, 96 // stride) for width, stride in zip(CHANNELS[kind], (8, 16, 32), strict=True)]
    assert [tuple(features.shape) for features in maps] == sizes


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_equals_its_images_one_by_one(kind: str) -> None:
    backbone = make_backbone(kind)
    images = random_images(2, 64, 64)
    alone = [torch.cat(maps) for maps in zip(*(backbone(image) for image in images.split(1)), strict=True)]
    for together, apart in zip(backbone(images), alone, strict=True):
        torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_it_makes_no_tensor_on_another_device(kind: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(TINY_BACKBONES[kind]).eval()
    maps = backbone(torch.empty(1, 3, 64, 64, device="meta"))
    assert {features.device.type for features in maps} == {"meta"}


@pytest.mark.parametrize(
    ("backbone", "cure"),
    [
        pytest.param(
            {"kind": "timm", "name": "test_resnet", "out_indices": [1, 2, 3]},
            r"strides \[8, 16, 32\], got \[4, 8, 16\]: choose other out_indices",
            id="timm stages that are too fine",
        ),
        pytest.param(
            {"kind": "timm", "name": "test_resnet", "out_indices": [3, 4]},
            r"got \[16, 32\]: choose other out_indices",
            id="too few timm stages",
        ),
        pytest.param(
            {"kind": "transformers", "config": {"hidden_sizes": [8, 12, 16, 24]}},
            "needs a model_type, for example 'convnextv2'",
            id="a transformers config without a model type",
        ),
        pytest.param(
            {
                "kind": "transformers",
                "config": {**TINY_BACKBONES["transformers"]["config"], "out_features": ["stage4"]},
            },
            r"got 1: set out_features to the stages at strides \[8, 16, 32\]",
            id="too few transformers stages",
        ),
    ],
)
def test_the_error_names_the_cure_for(backbone: dict[str, Any], cure: str) -> None:
    with pytest.raises(ConfigError, match=cure):
        build_backbone(backbone)


def test_without_timm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ConfigError, match=r"pip install 'glip-for-everyone\[timm\]'"):
        build_backbone(TINY_BACKBONES["timm"])


def test_the_resnets_batch_norms_are_frozen() -> None:
    backbone = build_backbone(TINY_BACKBONES["resnet"]).train()
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    assert any("running_mean" in name for name in before)
    backbone(random_images(2))
    for name, buffer in backbone.named_buffers():
        torch.testing.assert_close(buffer, before[name], rtol=0, atol=0)
    assert not any(".bn" in name for name, _ in backbone.named_parameters())


def test_a_csp_stage_lets_half_of_its_channels_pass_by() -> None:
    stage = CspStage(4, pairs=2, stride=2)
    features = torch.randn(1, 4, 6, 6)
    found = stage(features)
    assert found.shape == (1, 8, 3, 3)
    torch.testing.assert_close(found[:, 4:], stage.entry(features))


def test_the_csp_neck_passes_coarse_maps_down_and_fine_ones_up() -> None:
    torch.manual_seed(0)
    backbone = CspPan(stem_channels=4, stage_channels=[8, 16, 32, 64], stage_depths=[1, 1, 1, 1], neck_channels=4)
    for lateral, value in zip(backbone.laterals, (1.0, 10.0, 100.0), strict=True):
        weight, bias = lateral.parameters()
        nn.init.zeros_(weight)
        nn.init.constant_(bias, value)
    backbone.towers = nn.ModuleList(nn.Identity() for _ in range(3))
    fine, middle, coarse = backbone(random_images(1))
    torch.testing.assert_close(fine, torch.full_like(fine, 111.0))  # 1 + 10 + 100
    torch.testing.assert_close(middle, torch.full_like(middle, 221.0))  # 10 + 100, and 111 from below
    torch.testing.assert_close(coarse, torch.full_like(coarse, 321.0))  # 100, and 221 from below


@pytest.mark.parametrize("size", [pytest.param((64, 96), id="even maps"), pytest.param((65, 97), id="odd maps")])
def test_csp_maps_are_rounded_up(size: tuple[int, int]) -> None:
    maps = make_backbone("csp")(random_images(1, *size))
    assert [tuple(features.shape[2:]) for features in maps] == [
        (-(-size[0] // stride), -(-size[1] // stride)) for stride in (8, 16, 32)
    ]
