"""A small backbone of plain convolutions.

Cross-stage-partial stages (Wang et al. 2020, CSPNet) and a path aggregation neck (Liu et al. 2018, PANet) without
convolutions of its own.
The shape is that of NanoDet-g, whose published weights start `glip-nano` (`glip.weights.nanodet`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAKY_SLOPE = 0.1


class CspPan(nn.Module):
    """Stem, four stages, and a neck that passes the coarse maps down and the fine ones up again.

    Args:
        stem_channels: channels at stride 4.
        stage_channels: output channels of the stages, at strides 4, 8, 16 and 32; each twice the one before.
        stage_depths: convolution pairs of each stage.
        neck_channels: C of the three maps that leave.
    """

    def __init__(
        self,
        *,
        stem_channels: int,
        stage_channels: Sequence[int],
        stage_depths: Sequence[int],
        neck_channels: int,
    ) -> None:
        super().__init__()
        widths = [stem_channels, *stage_channels]
        self.stem = ConvLeaky(3, stem_channels, stride=2)
        self.stages = nn.ModuleList(
            CspStage(before, pairs=pairs, stride=1 if index == 0 else 2)
            for index, (before, pairs) in enumerate(zip(widths, stage_depths, strict=False))
        )
        self.laterals = nn.ModuleList(nn.Conv2d(width, neck_channels, 1) for width in stage_channels[1:])
        self.towers = nn.ModuleList(ConvLeaky(neck_channels, neck_channels) for _ in stage_channels[1:])
        self.channels = (neck_channels,) * len(self.laterals)

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        """`(B, 3, H, W)` normalised RGB to three maps `(B, neck_channels, H / s, W / s)`, s = 8, 16, 32."""
        features = F.max_pool2d(self.stem(pixel_values), 3, stride=2, padding=1)
        maps = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        levels = [lateral(features) for lateral, features in zip(self.laterals, maps[1:], strict=True)]
        aggregated = _aggregate(levels)
        return [tower(level) for tower, level in zip(self.towers, aggregated, strict=True)]


def _aggregate(levels: Sequence[Tensor]) -> list[Tensor]:
    """Add each coarser level to the finer one, then each finer to the coarser; resized without weights."""
    down = list(levels)
    for fine in range(len(down) - 2, -1, -1):
        down[fine] = down[fine] + _resize(down[fine + 1], down[fine])
    up = down
    for coarse in range(1, len(up)):
        up[coarse] = up[coarse] + _resize(up[coarse - 1], up[coarse])
    return up


def _resize(features: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)


class ConvLeaky(nn.Module):
    """A 3x3 convolution and a leaky ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        nn.init.kaiming_normal_(self.conv.weight, LEAKY_SLOPE)  # there is no norm to keep the scale of features
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, in_channels, H, W)` to `(B, out_channels, ceil(H / stride), ceil(W / stride))`."""
        return F.leaky_relu(self.conv(features), LEAKY_SLOPE)


class CspStage(nn.Module):
    """Half of the channels pass by; the other half goes through pairs of convolutions that keep both outputs."""

    def __init__(self, channels: int, *, pairs: int, stride: int) -> None:
        super().__init__()
        self.entry = ConvLeaky(channels, channels, stride=stride)
        self.pairs = nn.ModuleList(ConvPair(channels) for _ in range(pairs))
        self.exit = ConvLeaky(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, 2 C, H / stride, W / stride)`."""
        entry = self.entry(features)
        deep = entry
        for pair in self.pairs:
            deep = pair(deep)
        return torch.cat([self.exit(deep), entry], dim=1)


class ConvPair(nn.Module):
    """Two convolutions to half the channels each; the later output stands first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvLeaky(channels, channels // 2)
        self.second = ConvLeaky(channels // 2, channels // 2)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, H, W)` in and out."""
        first = self.first(features)
        return torch.cat([self.second(first), first], dim=1)
