"""A map as a short sequence: at most a grid of places, each of which knows where it is."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OCTAVES = 4  # of the waves that tell places apart; the shortest has an eighth of the image


class GridEncoder(nn.Module):
    """Pools a map to at most `side` x `side` places and adds where in its image each of them is.

    Args:
        channels: C of the map.
        dim: D of the places.
        side: most places along a side.
    """

    def __init__(self, channels: int, dim: int, *, side: int) -> None:
        super().__init__()
        self.side = side
        self.content = nn.Linear(channels, dim)
        self.place = nn.Linear(4 * OCTAVES, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, level: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a map.

        Args:
            level: `(B, C, H, W)`.
            mask: `(B, H, W)` bool, True on the image.

        Returns:
            `(B, N, D)`, and `(B, N)` bool, True on places that show some of the image.
        """
        pooled, share = pool_grid(level, mask, self.side)
        content = self.content(pooled.flatten(2).transpose(1, 2))
        places = waves(centres(mask, (share.shape[1], share.shape[2])).to(content.dtype))
        return self.norm(content + self.place(places)), share.flatten(1) > 0


def pool_grid(level: Tensor, mask: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Means over the image's part of each of at most `side` x `side` cells.

    Args:
        level: `(B, C, H, W)`.
        mask: `(B, H, W)` bool, True on the image.
        side: most cells along a side.

    Returns:
        `(B, C, h, w)`, 0 in cells of padding only, and `(B, h, w)` the image's share of each cell.
    """
    size = (min(side, level.shape[2]), min(side, level.shape[3]))
    weights = mask.unsqueeze(1).to(level.dtype)
    share = F.adaptive_avg_pool2d(weights, size)
    pooled = F.adaptive_avg_pool2d(level * weights, size)
    return pooled / share.clamp(min=torch.finfo(level.dtype).tiny), share.squeeze(1)


def centres(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Where the cells of a grid are in each image, from 0 (left, top) to 1 (right, bottom): `(B, h * w, 2)`.

    Args:
        mask: `(B, H, W)` bool, True on the image, which starts at the top left.
        size: `(h, w)` cells that the whole map is cut into.
    """
    rows, columns = (
        (torch.arange(cells, device=mask.device) + 0.5)[None] * (length / cells) / used.clamp(min=1)[:, None]
        for cells, length, used in zip(
            size, mask.shape[1:], (mask.any(dim=2).sum(dim=1), mask.any(dim=1).sum(dim=1)), strict=True
        )
    )
    down = rows[:, :, None].expand(-1, -1, size[1])
    right = columns[:, None].expand(-1, size[0], -1)
    return torch.stack([right, down], dim=-1).flatten(1, 2)


def waves(places: Tensor) -> Tensor:
    """Sines and cosines of coordinates in [0, 1]: `(..., 2)` to `(..., 16)`."""
    frequencies = math.pi * 2.0 ** torch.arange(OCTAVES, device=places.device, dtype=places.dtype)
    angles = (places.unsqueeze(-1) * frequencies).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
