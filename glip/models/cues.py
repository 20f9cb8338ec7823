"""Plain cues beside a backbone's features: where a position is, how coarse its level is, which colours lie around it.

A detector trained for class names forgets them, and phrases ask for them ("the red cup on the left"). Each is a number
that a projected word can weigh linearly in the alignment's dot product (GLIP, equation 3).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PALETTE = 24
PLACES = 4  # x, y, and their squared distances from the middle
STRENGTH = 4.0  # of a cue before training; pyramid features are some tens long
WINDOW = 3  # cells to a side that a position's colours are taken from


class PlainCues(nn.Module):
    """Features to be added to each pyramid level.

    Args:
        channels: C of the pyramid; the cues start in its last channels.
        num_levels: pyramid levels.
    """

    def __init__(self, channels: int, *, num_levels: int) -> None:
        super().__init__()
        self.palette = nn.Conv2d(3, PALETTE, 1)
        self.projection = nn.Linear(PALETTE + PLACES + num_levels, channels, bias=False)
        count = min(self.projection.in_features, channels)
        nn.init.zeros_(self.projection.weight)
        with torch.no_grad():
            self.projection.weight[-count:, :count] = STRENGTH * torch.eye(count)

    def forward(
        self, pixel_values: Tensor, levels: Sequence[Tensor], image_sizes: Tensor | None = None
    ) -> list[Tensor]:
        """Add the cues.

        Args:
            pixel_values: `(B, 3, H, W)` normalised RGB.
            levels: `(B, C, h, w)` each, finest first.
            image_sizes: `(B, 2)` (height, width) without padding; None for images that fill the batch.

        Returns:
            Levels of the same shapes.
        """
        shares = self.palette(F.avg_pool2d(pixel_values, 2)).softmax(dim=1)  # (B, PALETTE, H / 2, W / 2)
        seen = []
        for index, level in enumerate(levels):
            colours = F.adaptive_avg_pool2d(shares, (level.shape[2], level.shape[3]))
            colours = F.avg_pool2d(colours, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)
            cues = [colours, self._places(pixel_values, level, image_sizes), one_hot_maps(level, index, len(levels))]
            added = self.projection(torch.cat(cues, dim=1).movedim(1, 3)).movedim(3, 1)
            seen.append(level + added.to(level.dtype))
        return seen

    def _places(self, pixel_values: Tensor, level: Tensor, image_sizes: Tensor | None) -> Tensor:
        """`(B, PLACES, h, w)`: x and y from 0 to 1 over the unpadded image, less a half, and their squares."""
        height, width = level.shape[-2:]
        batch = len(level)
        y, x = ((torch.arange(n, device=level.device, dtype=level.dtype) + 0.5) / n for n in (height, width))
        if image_sizes is None:
            rows, columns = y.expand(batch, -1), x.expand(batch, -1)
        else:
            padded = torch.tensor(pixel_values.shape[-2:], device=level.device, dtype=level.dtype)
            growth = padded / image_sizes.to(level)  # (B, 2)
            rows, columns = y * growth[:, :1], x * growth[:, 1:]
        rows, columns = rows - 0.5, columns - 0.5
        grid = torch.stack(
            [columns[:, None].expand(-1, height, -1), rows[:, :, None].expand(-1, -1, width)], dim=1
        )  # (B, 2, h, w)
        return torch.cat([grid, grid.square()], dim=1)


def one_hot_maps(level: Tensor, index: int, count: int) -> Tensor:
    """`(B, count, h, w)`: 1 in the map of this level's index, 0 in the others."""
    maps = level.new_zeros(len(level), count, *level.shape[-2:])
    maps[:, index] = 1
    return maps
