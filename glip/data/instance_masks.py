"""Which pixels of a picture belong to a thing, before they are drawn: outlines move more cheaply than pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from glip.errors import DataError
from glip.structures.masks import masks_of

Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class InstanceMask:
    """A thing's mask, as an annotation file has it.

    Attributes:
        segmentation: COCO's polygons (flat lists x, y, x, y, ... in pixels) or run lengths, or `(H, W)` bool pixels.
        size: `(height, width)` of the picture that it is of, in pixels.
        source: where it stands, for errors.
    """

    segmentation: Any
    size: tuple[int, int]
    source: str = "a mask"

    def mirrored(self) -> "InstanceMask":
        """The mask of the picture's mirror image."""
        if self._is_outline():
            return self._moved(lambda x, y: (self.size[1] - x, y), self.size)
        return replace(self, segmentation=np.ascontiguousarray(self._pixels()[:, ::-1]))

    def cut(self, window: Sequence[int]) -> "InstanceMask":
        """The mask of a part of the picture; `window` is xyxy pixels."""
        x1, y1, x2, y2 = window
        size = (y2 - y1, x2 - x1)
        if self._is_outline():
            return self._moved(lambda x, y: (x - x1, y - y1), size)
        return replace(self, segmentation=self._pixels()[y1:y2, x1:x2].copy(), size=size)

    def draw(self, size: tuple[int, int]) -> Tensor:
        """The mask of the resized picture: `(H, W)` bool.

        Args:
            size: its `(height, width)` in pixels.

        Raises:
            DataError: the segmentation is none.
        """
        if self._is_outline():
            down, right = size[0] / self.size[0], size[1] / self.size[1]
            resized = self._moved(lambda x, y: (x * right, y * down), size)
            return torch.from_numpy(resized._pixels())
        picture = Image.fromarray(self._pixels().astype(np.uint8) * 255).resize((size[1], size[0]))
        return torch.from_numpy(np.asarray(picture) >= 128)

    def _is_outline(self) -> bool:
        return isinstance(self.segmentation, list)

    def _moved(self, move: Any, size: tuple[int, int]) -> "InstanceMask":
        """Every corner elsewhere."""
        try:
            corners = [np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in self.segmentation]
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{self.source}: segmentation must be polygons [x, y, x, y, ...] or run lengths, "
                f"got {self.segmentation!r:.60}"
            ) from error
        parts = [np.stack(move(part[:, 0], part[:, 1]), axis=1).ravel().tolist() for part in corners]
        return replace(self, segmentation=parts, size=size)

    def _pixels(self) -> Bits:
        """`(H, W)` bool."""
        if isinstance(self.segmentation, np.ndarray):
            return self.segmentation
        try:
            bits: Bits = masks_of([self.segmentation], self.size)[0].numpy()
        except DataError as error:
            raise DataError(f"{self.source}: {error}") from error
        return bits
