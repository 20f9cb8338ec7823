"""What was found in one image."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from glip.errors import ShapeError
from glip.files import check_target, write_json
from glip.structures.boxes import check_boxes, xyxy_to_xywh
from glip.structures.prompt import Span

if TYPE_CHECKING:
    import supervision
    from PIL import Image


@dataclass(frozen=True, eq=False)
class Detections:
    """The boxes found in one image, best first.

    Attributes:
        boxes: `(N, 4)` float, xyxy, pixels of the original image.
        scores: `(N,)` float in `[0, 1]`.
        labels: `(N,)` int64, an index into `phrases`; counts from 0.
        phrases: what was looked for: the caller's own strings, in the caller's order; length P.
        spans: of each phrase, its half-open character spans in the caption; empty if there was no one caption.

    Raises:
        ShapeError: the fields do not agree on N, or a label is no index into `phrases`.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    phrases: tuple[str, ...]
    spans: tuple[tuple[Span, ...], ...] = field(default=())

    def __post_init__(self) -> None:
        """Check that the fields speak of the same boxes."""
        check_boxes(self.boxes)
        count = len(self.boxes)
        if self.scores.shape != (count,) or self.labels.shape != (count,):
            raise ShapeError(
                f"{count} boxes need scores ({count},) and labels ({count},), "
                f"got {tuple(self.scores.shape)} and {tuple(self.labels.shape)}"
            )
        if count and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.phrases):
            raise ShapeError(f"labels must index the {len(self.phrases)} phrases, got {self.labels.unique().tolist()}")

    def __len__(self) -> int:
        """The number of boxes."""
        return len(self.boxes)

    def __getitem__(self, which: Tensor | slice | list[int]) -> Self:
        """Some of the boxes, by mask, indices or slice; what was looked for stays."""
        return replace(self, boxes=self.boxes[which], scores=self.scores[which], labels=self.labels[which])

    @classmethod
    def empty(cls, phrases: tuple[str, ...] = ()) -> Self:
        """Nothing found."""
        return cls(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), phrases)

    @property
    def text_labels(self) -> list[str]:
        """The caller's own words for each box; length N."""
        return [self.phrases[label] for label in self.labels.tolist()]

    def to_dicts(self) -> list[dict[str, Any]]:
        """As transformers' zero-shot-object-detection pipeline returns them: score, label, box with named corners."""
        names = ("xmin", "ymin", "xmax", "ymax")
        return [
            {"score": score, "label": text, "box": dict(zip(names, box, strict=True))}
            for score, text, box in zip(self.scores.tolist(), self.text_labels, self.boxes.tolist(), strict=True)
        ]

    def to_coco(self, image_id: int, *, category_ids: list[int] | None = None) -> list[dict[str, Any]]:
        """As records of a COCO results file, boxes xywh in pixels.

        Args:
            image_id: the image's id in the annotation file.
            category_ids: the file's id of each phrase; None for the labels themselves.

        Raises:
            ShapeError: there are fewer ids than phrases.
        """
        ids = category_ids if category_ids is not None else range(len(self.phrases))
        if len(ids) < len(self.phrases):
            raise ShapeError(f"category_ids must have one id for each of {len(self.phrases)} phrases, got {len(ids)}")
        boxes = xyxy_to_xywh(self.boxes).tolist()
        return [
            {"image_id": image_id, "category_id": ids[label], "bbox": box, "score": score}
            for label, box, score in zip(self.labels.tolist(), boxes, self.scores.tolist(), strict=True)
        ]

    def to_supervision(self) -> "supervision.Detections":
        """As `supervision.Detections`, with the caller's words under `data["class_name"]`; needs supervision."""
        import numpy as np
        import supervision

        return supervision.Detections(
            xyxy=self.boxes.numpy().reshape(-1, 4),
            confidence=self.scores.numpy(),
            class_id=self.labels.numpy(),
            data={"class_name": np.array(self.text_labels, dtype=object)},
        )

    def draw(self, image: "Image.Image") -> "Image.Image":
        """A copy of the picture, the right way up, with a box, its words and its score for each detection."""
        from glip.images import read_image
        from glip.structures.drawing import draw_boxes

        captions = [f"{text} {score:.2f}" for text, score in zip(self.text_labels, self.scores.tolist(), strict=True)]
        return draw_boxes(read_image(image), self.boxes.tolist(), captions, self.labels.tolist())

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write `to_dicts` as JSON.

        Raises:
            FileError: the file exists and `overwrite` is not set.
        """
        write_json(check_target(path, overwrite=overwrite), self.to_dicts())
