"""One square anchor at each position of each pyramid level (ATSS, section 3.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from glip.structures.output import ANCHOR_STRIDES


def make_anchors(
    level_shapes: Sequence[tuple[int, int]], strides: Sequence[int], *, device: torch.device | str = "cpu"
) -> Tensor:
    """Anchors of all levels, finest first, each level row by row.

    The anchor of stride s at row i and column j has the centre `(j s + (s - 1) / 2, i s + (s - 1) / 2)` and corners
    that are pixel indices: its side is `x2 - x1 + 1 = 8 s`. None is dropped for lying outside the image.

    Args:
        level_shapes: `(height, width)` of each level's map.
        strides: pixels between neighbours, of each level.
        device: where the anchors are made.

    Returns:
        `(A, 4)` xyxy pixels of the network's image.
    """
    levels = []
    for (height, width), stride in zip(level_shapes, strides, strict=True):
        y, x = torch.meshgrid(
            torch.arange(height, device=device) * stride,
            torch.arange(width, device=device) * stride,
            indexing="ij",
        )
        corners = torch.stack([x, y, x, y], dim=-1).flatten(0, 1).float()
        reach = (ANCHOR_STRIDES * stride - 1) / 2
        centre = (stride - 1) / 2
        levels.append(corners + corners.new_tensor([centre - reach] * 2 + [centre + reach] * 2))
    return torch.cat(levels)


def box_centres(boxes: Tensor) -> Tensor:
    """Centres `(..., 2)` (x, y) of boxes `(..., 4)` xyxy pixels."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2
