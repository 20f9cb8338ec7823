"""The truth about one image."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glip.errors import ShapeError
from glip.structures.boxes import check_boxes


@dataclass(frozen=True, eq=False)
class Targets:
    """Boxes of one image and the words that each of them belongs to.

    An image without boxes is a valid example: N is 0 then.

    Attributes:
        boxes: `(N, 4)` float, xyxy, pixels of the network's (resized, unpadded) image.
        token_map: `(N, L)` bool, True where a token of the caption names the box.
        labels: `(N,)` int64, an index into the caption's phrases; counts from 0.
        box_loss: whether the boxes teach where edges are; else only which places belong to which words.
        masks: `(N, H, W)` bool over the network's image, True on the thing; None where they are not known.
        is_grounded: whether the caption's boxes are known; a question's are not, so it teaches nothing about boxes.

    Raises:
        ShapeError: the fields do not agree on N.
    """

    boxes: Tensor
    token_map: Tensor
    labels: Tensor
    box_loss: bool = True
    masks: Tensor | None = None
    is_grounded: bool = True

    def __post_init__(self) -> None:
        """Check that the fields speak of the same boxes."""
        check_boxes(self.boxes)
        count = len(self.boxes)
        if self.token_map.ndim != 2 or len(self.token_map) != count or self.labels.shape != (count,):
            raise ShapeError(
                f"targets of {count} boxes need a token_map ({count}, L) and labels ({count},), "
                f"got {tuple(self.token_map.shape)} and {tuple(self.labels.shape)}"
            )
        if self.masks is not None and (self.masks.ndim != 3 or len(self.masks) != count):
            raise ShapeError(f"masks of {count} boxes must be ({count}, H, W), got {tuple(self.masks.shape)}")

    def __len__(self) -> int:
        """The number of boxes."""
        return len(self.boxes)

    def to(self, device: torch.device | str) -> "Targets":
        """The same truth on another device."""
        return replace(
            self,
            boxes=self.boxes.to(device),
            token_map=self.token_map.to(device),
            labels=self.labels.to(device),
            masks=None if self.masks is None else self.masks.to(device),
        )
