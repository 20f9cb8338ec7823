"""Non-maximum suppression, with the published models' overlap or torchvision's."""

import torch
from torch import Tensor
from torchvision.ops import nms

from glip.detection.box_coder import LEGACY_PIXEL


def suppress(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    threshold: float,
    class_agnostic: bool = False,
    legacy: bool = True,
) -> Tensor:
    """Which boxes stay when better ones of the same label cover them.

    Args:
        boxes: `(N, 4)` xyxy pixels.
        scores: `(N,)`.
        labels: `(N,)` int64.
        threshold: a box goes if its IoU with a better one is above this.
        class_agnostic: whether boxes of other labels suppress too.
        legacy: whether sides count one pixel more (corners as pixel indices), as the published models do.

    Returns:
        Indices of the kept boxes, best first; equal scores in input order.
    """
    # torchvision's overlap has no pixel; boxes whose far corners are moved by it have the legacy overlap exactly.
    # Offsets between classes would cost float32 digits, so each class is suppressed on its own.
    order = scores.argsort(descending=True, stable=True)
    moved = boxes[order] + boxes.new_tensor([0, 0, LEGACY_PIXEL, LEGACY_PIXEL]) * legacy
    ranks = -torch.arange(len(order), device=boxes.device, dtype=boxes.dtype)
    if class_agnostic:
        return order[nms(moved, ranks, threshold).sort().values]
    ordered_labels = labels[order]
    kept = [
        members[nms(moved[members], ranks[members], threshold)]
        for members in (torch.nonzero(ordered_labels == label)[:, 0] for label in ordered_labels.unique())
    ]
    return order[torch.cat(kept).sort().values] if kept else order
