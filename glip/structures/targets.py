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

    Raises:
        ShapeError: the fields do not agree on N.
    """

    boxes: Tensor
    token_map: Tensor
    labels: Tensor
    box_loss: bool = True

    def __post_init__(self) -> None:
        """Check that the fields speak of the same boxes."""
        check_boxes(self.boxes)
        count = len(self.boxes)
        if self.token_map.ndim != 2 or len(self.token_map) != count or self.labels.shape != (count,):
            raise ShapeError(
                f"targets of {count} boxes need a token_map ({count}, L) and labels ({count},), "
                f"got {tuple(self.token_map.shape)} and {tuple(self.labels.shape)}"
            )

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
        )
