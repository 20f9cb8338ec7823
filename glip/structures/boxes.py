"""Functions of boxes. `boxes` means `(N, 4)` xyxy in pixels; anything else says so in its name."""

import torch
from torch import Tensor

from glip.errors import ShapeError


def check_boxes(boxes: Tensor, *, name: str = "boxes") -> None:
    """Refuse anything that is not a list of boxes.

    Raises:
        ShapeError: the tensor is not `(N, 4)`.
    """
    if boxes.ndim != 2 or boxes.shape[-1] != 4:
        raise ShapeError(f"{name} must be (N, 4) xyxy, got {tuple(boxes.shape)}")


def box_areas(boxes: Tensor, *, pixel: float = 0.0) -> Tensor:
    """Areas in square pixels.

    Args:
        boxes: `(..., 4)` xyxy pixels.
        pixel: what is added to each side; 1 where corners are pixel indices (the legacy convention).

    Returns:
        `(...)`, 0 for a box whose corners are crossed.
    """
    sides = (boxes[..., 2:] - boxes[..., :2] + pixel).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def pairwise_iou(boxes1: Tensor, boxes2: Tensor, *, pixel: float = 0.0) -> Tensor:
    """Intersection over union of every pair.

    Args:
        boxes1: `(N, 4)` xyxy pixels.
        boxes2: `(M, 4)` xyxy pixels.
        pixel: what is added to each side; 1 where corners are pixel indices (the legacy convention).

    Returns:
        `(N, M)` in `[0, 1]`; 0 where both boxes are empty.
    """
    intersection = _shared_areas(boxes1, boxes2, pixel=pixel)
    union = box_areas(boxes1, pixel=pixel)[:, None] + box_areas(boxes2, pixel=pixel)[None] - intersection
    return torch.where(union > 0, intersection / union.clamp(min=torch.finfo(union.dtype).tiny), 0.0)


def _shared_areas(boxes1: Tensor, boxes2: Tensor, *, pixel: float = 0.0) -> Tensor:
    """`(N, M)` areas of the intersections."""
    top_left = torch.maximum(boxes1[:, None, :2], boxes2[None, :, :2])  # (N, M, 2)
    bottom_right = torch.minimum(boxes1[:, None, 2:], boxes2[None, :, 2:])  # (N, M, 2)
    sides = (bottom_right - top_left + pixel).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def elementwise_giou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Generalised IoU of boxes that belong together (Rezatofighi et al. 2019, equation 3).

    Args:
        boxes1: `(N, 4)` xyxy pixels; crossed corners count as a side of 0.
        boxes2: `(N, 4)` xyxy pixels.

    Returns:
        `(N,)` in `[-1, 1]`.
    """
    eps = 1e-7  # the official value; keeps two empty boxes at a finite loss
    boxes1 = torch.cat([boxes1[:, :2], torch.maximum(boxes1[:, :2], boxes1[:, 2:])], dim=1)
    overlap = (torch.minimum(boxes1[:, 2:], boxes2[:, 2:]) - torch.maximum(boxes1[:, :2], boxes2[:, :2])).clamp(min=0)
    intersection = overlap[:, 0] * overlap[:, 1]
    union = box_areas(boxes1) + box_areas(boxes2) - intersection + eps
    hull = torch.cat([torch.minimum(boxes1[:, :2], boxes2[:, :2]), torch.maximum(boxes1[:, 2:], boxes2[:, 2:])], dim=1)
    hull_area = box_areas(hull) + eps
    return intersection / union - (hull_area - union) / hull_area


def pairwise_giou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Generalised IoU of every pair (Rezatofighi et al. 2019, equation 3).

    Args:
        boxes1: `(N, 4)` xyxy pixels.
        boxes2: `(M, 4)` xyxy pixels.

    Returns:
        `(N, M)` in `[-1, 1]`; the IoU where the box round both has no area.
    """
    iou = pairwise_iou(boxes1, boxes2)
    hull = torch.cat(
        [
            torch.minimum(boxes1[:, None, :2], boxes2[None, :, :2]),
            torch.maximum(boxes1[:, None, 2:], boxes2[None, :, 2:]),
        ],
        dim=2,
    )
    hull_area = box_areas(hull)
    shared = _shared_areas(boxes1, boxes2)
    union = box_areas(boxes1)[:, None] + box_areas(boxes2)[None] - shared
    empty = (hull_area - union) / hull_area.clamp(min=torch.finfo(iou.dtype).tiny)
    return torch.where(hull_area > 0, iou - empty, iou)


def clip_boxes(boxes: Tensor, size: tuple[int, int], *, pixel: float = 0.0) -> Tensor:
    """Boxes moved inside an image.

    Args:
        boxes: `(..., 4)` xyxy pixels.
        size: `(height, width)` of the image.
        pixel: 1 where corners are pixel indices, so that the last valid corner is `width - 1`.
    """
    height, width = size
    limit = boxes.new_tensor([width, height, width, height]) - pixel
    return torch.minimum(boxes.clamp(min=0), limit)


def scale_boxes(boxes: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """Boxes of an image that was resized; the two axes have ratios of their own.

    Args:
        boxes: `(..., 4)` xyxy pixels of an image of `from_size`.
        from_size: `(height, width)`.
        to_size: `(height, width)`.
    """
    ratio_y, ratio_x = to_size[0] / from_size[0], to_size[1] / from_size[1]
    return boxes * boxes.new_tensor([ratio_x, ratio_y, ratio_x, ratio_y])


def xywh_to_xyxy(boxes_xywh: Tensor) -> Tensor:
    """Corner and side lengths to two corners; `(..., 4)` pixels both."""
    return torch.cat([boxes_xywh[..., :2], boxes_xywh[..., :2] + boxes_xywh[..., 2:]], dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """Two corners to corner and side lengths; `(..., 4)` pixels both."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], dim=-1)
