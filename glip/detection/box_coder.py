"""Boxes as deltas of anchors, and back (Faster R-CNN, section 3.1.2, with the weights of the published models)."""

import math

import torch
from torch import Tensor

from glip.structures.output import CENTRE_WEIGHT, SIDE_WEIGHT

LEGACY_PIXEL = 1  # corners are pixel indices, so a side is x2 - x1 + 1; the published weights expect it
MAX_LOG_SCALE = math.log(1000 / 16)  # decoded sides stay under 62.5 times the anchor's


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Deltas that `decode_boxes` turns back into these boxes.

    Args:
        boxes: `(N, 4)` xyxy pixels.
        anchors: `(N, 4)` xyxy pixels.

    Returns:
        `(N, 4)`: centre moved in units of the anchor's sides times 10, and logarithms of side ratios times 5.
    """
    centres, sides = _centres_and_sides(boxes)
    anchor_centres, anchor_sides = _centres_and_sides(anchors)
    return torch.cat(
        [
            CENTRE_WEIGHT * (centres - anchor_centres) / anchor_sides,
            SIDE_WEIGHT * torch.log(sides / anchor_sides),
        ],
        dim=-1,
    )


def decode_boxes(deltas: Tensor, anchors: Tensor) -> Tensor:
    """The boxes that deltas mean; not clipped to any image.

    Args:
        deltas: `(..., 4)` as from `encode_boxes`.
        anchors: `(..., 4)` xyxy pixels.

    Returns:
        `(..., 4)` xyxy pixels.
    """
    anchor_centres, anchor_sides = _centres_and_sides(anchors)
    centres = deltas[..., :2] / CENTRE_WEIGHT * anchor_sides + anchor_centres
    sides = torch.exp((deltas[..., 2:] / SIDE_WEIGHT).clamp(max=MAX_LOG_SCALE)) * anchor_sides
    reach = (sides - LEGACY_PIXEL) / 2
    return torch.cat([centres - reach, centres + reach], dim=-1)


def _centres_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2] + LEGACY_PIXEL
