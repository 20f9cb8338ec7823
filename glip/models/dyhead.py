"""Dynamic head block (Dai et al. 2021, Dynamic Head): attention over scales, space and channels of a pyramid."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.layers.deform_conv import TAPS, ModulatedDeformConv
from glip.layers.dynamic_relu import DynamicReLU
from glip.layers.pooling import masked_mean


class DyConv(nn.Module):
    """Each level gathers from itself and its neighbours with deformable convolutions, weighted by content.

    Args:
        channels: C of every level.
        num_groups: groups of the GroupNorm behind each convolution.
    """

    def __init__(self, channels: int, *, num_groups: int) -> None:
        super().__init__()
        self.offset = nn.Conv2d(channels, 3 * TAPS, 3, padding=1)
        self.from_coarser = DeformConvNorm(channels, num_groups=num_groups, stride=1)
        self.from_same = DeformConvNorm(channels, num_groups=num_groups, stride=1)
        self.from_finer = DeformConvNorm(channels, num_groups=num_groups, stride=2)
        self.scale_attention = nn.Linear(channels, 1)
        self.activation = DynamicReLU(channels)
        nn.init.normal_(self.scale_attention.weight, std=0.01)
        nn.init.zeros_(self.scale_attention.bias)

    def forward(self, levels: Sequence[Tensor], masks: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Mix the levels; all read the block's input, none another's output.

        Args:
            levels: `(B, C, H, W)` each, finest first.
            masks: `(B, H, W)` bool of each level, True on the image and False on its padding; None for all True.

        Returns:
            Levels of the same shapes.
        """
        mixed = []
        for index, features in enumerate(levels):
            candidates = self._candidates(levels, index, *self._offsets(features))
            mask = None if masks is None else masks[index]
            summed = sum(self._weight(candidate, mask) * candidate for candidate in candidates)
            mean = torch.as_tensor(summed / len(candidates))
            mixed.append(self.activation(mean, mask))
        return mixed

    def _offsets(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Sampling offsets `(B, 18, H, W)` in pixels and tap weights `(B, 9, H, W)` of a level."""
        raw = self.offset(features)
        return raw[:, : 2 * TAPS], raw[:, 2 * TAPS :].sigmoid()

    def _candidates(self, levels: Sequence[Tensor], index: int, offsets: Tensor, mask: Tensor) -> list[Tensor]:
        """The level's own view, the finer neighbour's and the coarser one's, where they exist."""
        size = levels[index].shape[-2:]
        candidates = [self.from_same(levels[index], offsets, mask)]
        if index > 0:
            candidates.append(self.from_finer(levels[index - 1], offsets, mask))
        if index + 1 < len(levels):
            coarse = levels[index + 1]
            coarse_size = coarse.shape[-2:]
            seen = self.from_coarser(coarse, flat_prefix(offsets, coarse_size), flat_prefix(mask, coarse_size))
            candidates.append(F.interpolate(seen, size=size, mode="bilinear", align_corners=True))
        return candidates

    def _weight(self, candidate: Tensor, mask: Tensor | None) -> Tensor:
        """Scale attention (Dynamic Head, equation 3): one number in `[0.5, 1]` per image, `(B, 1, 1, 1)`."""
        pooled = masked_mean(candidate, mask)
        weight: Tensor = F.hardsigmoid(F.relu(self.scale_attention(pooled)))[:, :, None, None]
        return weight


class DeformConvNorm(nn.Module):
    """A modulated deformable convolution and its GroupNorm."""

    def __init__(self, channels: int, *, num_groups: int, stride: int) -> None:
        super().__init__()
        self.conv = ModulatedDeformConv(channels, channels, stride=stride)
        self.norm = nn.GroupNorm(num_groups, channels)

    def forward(self, features: Tensor, offsets: Tensor, mask: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C, h, w)`, the size of the offsets."""
        result: Tensor = self.norm(self.conv(features, offsets, mask).to(features.dtype))
        return result


def flat_prefix(maps: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """The first numbers of a finer map, read as if it had a coarser size.

    The published weights were trained by an operator that took offsets of the level's own size for a convolution
    over the coarser neighbour, and read them in memory order. Same numbers, same gradients.

    Args:
        maps: `(B, K, H, W)`.
        size: `(h, w)` with `h * w <= H * W`.

    Returns:
        `(B, K, h, w)`: of each image, the first `K * h * w` numbers.
    """
    channels, (height, width) = maps.shape[1], size
    prefix: Tensor = maps.flatten(1)[:, : channels * height * width].unflatten(1, (channels, height, width))
    return prefix
