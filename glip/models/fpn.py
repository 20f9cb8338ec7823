"""Feature pyramid (Lin et al. 2017) with two or more levels added on top (RetinaNet, section 4)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from glip.layers.drop_block import DropBlock


class FeaturePyramid(nn.Module):
    """Maps of equal width at strides 8, 16, 32, 64, ...

    Args:
        in_channels: C of the backbone's three maps, finest first.
        channels: C of every level.
        num_extra: levels added beyond the backbone's, each by a stride-2 convolution on the one below.
        top_down: whether each level receives the coarser one before its convolution.
        drop_block: share of positions dropped in training, on all backbone levels but the coarsest.
    """

    def __init__(
        self, in_channels: Sequence[int], channels: int, *, num_extra: int, top_down: bool, drop_block: float
    ) -> None:
        super().__init__()
        self.top_down = top_down
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        self.extra = nn.ModuleList(nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in range(num_extra))
        self.drop_block = DropBlock(drop_block)
        for conv in [*self.lateral, *self.output, *self.extra]:
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Backbone maps `(B, in_channels[i], H, W)`, finest first, to pyramid levels `(B, channels, H, W)`."""
        merged = [lateral(features) for lateral, features in zip(self.lateral, maps, strict=True)]
        if self.top_down:
            for fine in range(len(merged) - 2, -1, -1):
                coarse = F.interpolate(merged[fine + 1], size=merged[fine].shape[-2:], mode="nearest")
                merged[fine] = merged[fine] + coarse
        dropped = [*(self.drop_block(features) for features in merged[:-1]), merged[-1]]
        levels = [output(features) for output, features in zip(self.output, dropped, strict=True)]
        for index, extra in enumerate(self.extra):
            below = levels[-1] if index == 0 else F.relu(levels[-1])  # the first has not passed a ReLU, by design
            levels.append(extra(below))
        return levels
