"""Instance masks: cut to boxes for training, their loss, and pasted back into images (Mask R-CNN, section 3)."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from glip.errors import ShapeError

PASTED_AT_A_TIME = 16  # boxes; each needs the whole image as floats
LIKELY = 0.5


def crop_masks(masks: Tensor, boxes: Tensor, side: int) -> Tensor:
    """What a mask head should say of each box.

    Args:
        masks: `(N, H, W)` bool over the image.
        boxes: `(N, 4)` xyxy pixels of it.
        side: S, places along a box's side.

    Returns:
        `(N, S, S)` float, 1 on the thing and 0 elsewhere; outside the image is elsewhere.
    """
    if not len(masks):
        return boxes.new_zeros(0, side, side)
    index = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype).unsqueeze(1)
    rois = torch.cat([index, boxes], dim=1)
    cut: Tensor = roi_align(masks.unsqueeze(1).to(boxes.dtype), rois, side, aligned=True)
    return (cut.squeeze(1) >= LIKELY).to(boxes.dtype)


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy of every place of every box, on average; 0 for no box.

    Args:
        logits: `(N, S, S)`.
        masks: `(N, S, S)` in `[0, 1]`.

    Raises:
        ShapeError: there is not one mask for each box.
    """
    if logits.shape != masks.shape:
        raise ShapeError(f"mask logits {tuple(logits.shape)} need masks of the same shape, got {tuple(masks.shape)}")
    return F.binary_cross_entropy_with_logits(logits.float(), masks.float(), reduction="sum") / max(masks.numel(), 1)


def paste_masks(probabilities: Tensor, boxes: Tensor, size: tuple[int, int], *, threshold: float = LIKELY) -> Tensor:
    """Masks of one image from those of its boxes.

    Args:
        probabilities: `(N, S, S)` in `[0, 1]`, over each box.
        boxes: `(N, 4)` xyxy pixels; what sticks out of the image is left out.
        size: `(height, width)` of the image in pixels.
        threshold: the least probability of the thing.

    Returns:
        `(N, H, W)` bool; nothing for a box without area.
    """
    pasted = [
        _paste(some, places, size) >= threshold
        for some, places in zip(probabilities.split(PASTED_AT_A_TIME), boxes.split(PASTED_AT_A_TIME), strict=True)
    ]
    return torch.cat(pasted) if len(boxes) else torch.zeros(0, *size, dtype=torch.bool, device=boxes.device)


def _paste(probabilities: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """`(N, H, W)` probabilities, -1 outside each box."""
    rows, columns = (torch.arange(length, device=boxes.device, dtype=boxes.dtype) + 0.5 for length in size)
    left, top, right, bottom = (edge.unsqueeze(1) for edge in boxes.unbind(dim=1))
    across = (columns - left) / (right - left) * 2 - 1  # (N, W), -1 at the left edge, 1 at the right
    down = (rows - top) / (bottom - top) * 2 - 1
    grid = torch.stack(torch.broadcast_tensors(across[:, None, :], down[:, :, None]), dim=-1)
    read = F.grid_sample(
        probabilities.unsqueeze(1), grid.to(probabilities.dtype), padding_mode="border", align_corners=False
    )
    inside = (across.abs() <= 1)[:, None, :] & (down.abs() <= 1)[:, :, None]
    return torch.where(inside, read.squeeze(1), -1.0)
