"""Recall of phrases: is one of the k best boxes right? (Flickr30k Entities; RefCOCO's precision@k)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from glip.structures.boxes import pairwise_iou

IOU_THRESHOLD = 0.5


def is_hit(boxes: Tensor, targets: Tensor, *, k: int, threshold: float = IOU_THRESHOLD) -> bool:
    """Whether one of the first k boxes meets one of the targets.

    Args:
        boxes: `(N, 4)` xyxy pixels, best first; may be empty.
        targets: `(M, 4)` xyxy pixels.
        k: how many boxes may try.
        threshold: least IoU; equality counts.
    """
    overlaps = pairwise_iou(boxes[:k], targets)
    return bool((overlaps >= threshold).any())


def recall_at(hits: Sequence[bool]) -> float:
    """Share of hits in `[0, 1]`; 0 for none at all."""
    return float(torch.tensor(hits, dtype=torch.float64).mean()) if hits else 0.0
