"""What was found in one image."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from glip.errors import ShapeError
from glip.files import check_target, write_json
from glip.structures.boxes import check_boxes, xyxy_to_xywh
from glip.structures.masks import Rle, check_masks, encode_masks
from glip.structures.prompt import Span

if TYPE_CHECKING:
    import supervision
    from PIL import Image

CORNER_NAMES = ("xmin", "ymin", "xmax", "ymax")  # transformers'


@dataclass(frozen=True, eq=False)
class Detections:
    """The boxes found in one image, best first.

    Attributes:
        boxes: `(N, 4)` float, xyxy, pixels of the original image.
        scores: `(N,)` float in `[0, 1]`.
        labels: `(N,)` int64, an index into `phrases`; counts from 0.
        phrases: what was looked for: the caller's own strings, in the caller's order; length P.
        spans: of each phrase, its half-open character spans in the caption; empty if there was no one caption.
        masks: `(N, H, W)` bool over the original image, True on the thing; None unless masks were asked for.

    Raises:
        ShapeError: the fields do not agree on N, a label is no index into `phrases`, or masks have another form.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    phrases: tuple[str, ...]
    spans: tuple[tuple[Span, ...], ...] = field(default=())
    masks: Tensor | None = None

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
        if self.masks is not None:
            check_masks(self.masks)
            if len(self.masks) != count:
                raise ShapeError(f"{count} boxes need {count} masks, got {len(self.masks)}")

    def __len__(self) -> int:
        """The number of boxes."""
        return len(self.boxes)

    def __getitem__(self, which: Tensor | slice | list[int]) -> Self:
        """Some of the boxes, by mask, indices or slice; what was looked for stays."""
        masks = None if self.masks is None else self.masks[which]
        return replace(self, boxes=self.boxes[which], scores=self.scores[which], labels=self.labels[which], masks=masks)

    @classmethod
    def empty(cls, phrases: tuple[str, ...] = ()) -> Self:
        """Nothing found."""
        return cls(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), phrases)

    @property
    def text_labels(self) -> list[str]:
        """The caller's own words for each box; length N."""
        return [self.phrases[label] for label in self.labels.tolist()]

    @property
    def segmentations(self) -> list[Rle] | None:
        """The masks as COCO's run lengths, `{"size": [height, width], "counts": str}`; None without masks."""
        return None if self.masks is None else encode_masks(self.masks)

    def to_dicts(self) -> list[dict[str, Any]]:
        """As transformers' zero-shot-object-detection pipeline returns them: score, label, box with named corners.

        Where there are masks, each record has its run lengths as `segmentation`, too.
        """
        records = [
            {"score": score, "label": text, "box": dict(zip(CORNER_NAMES, box, strict=True))}
            for score, text, box in zip(self.scores.tolist(), self.text_labels, self.boxes.tolist(), strict=True)
        ]
        return self._with_segmentations(records)

    def to_coco(self, image_id: int, *, category_ids: list[int] | None = None) -> list[dict[str, Any]]:
        """As records of a COCO results file, boxes xywh in pixels, masks, if there are any, as run lengths.

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
        records = [
            {"image_id": image_id, "category_id": ids[label], "bbox": box, "score": score}
            for label, box, score in zip(self.labels.tolist(), boxes, self.scores.tolist(), strict=True)
        ]
        return self._with_segmentations(records)

    def _with_segmentations(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        runs = self.segmentations
        if runs is None:
            return records
        return [{**record, "segmentation": run} for record, run in zip(records, runs, strict=True)]

    def to_supervision(self) -> "supervision.Detections":
        """As `supervision.Detections`, with the caller's words under `data["class_name"]`; needs supervision."""
        import numpy as np
        import supervision

        return supervision.Detections(
            xyxy=self.boxes.numpy().reshape(-1, 4),
            confidence=self.scores.numpy(),
            class_id=self.labels.numpy(),
            mask=None if self.masks is None else self.masks.numpy(),
            data={"class_name": np.array(self.text_labels, dtype=object)},
        )

    def draw(self, image: "Image.Image") -> "Image.Image":
        """A copy of the picture, the right way up, with a box, its words and its score for each detection.

        Where there are masks, they lie over the picture in the boxes' colours, and it shines through.

        Raises:
            ShapeError: the masks are of a picture of another size.
        """
        from glip.images import read_image
        from glip.structures.drawing import draw_boxes, shade_masks

        upright = read_image(image)
        if self.masks is not None:
            upright = shade_masks(upright, self.masks.numpy(), self.labels.tolist())
        captions = [f"{text} {score:.2f}" for text, score in zip(self.text_labels, self.scores.tolist(), strict=True)]
        return draw_boxes(upright, self.boxes.tolist(), captions, self.labels.tolist())

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write `to_dicts` as JSON.

        Raises:
            FileError: the file exists and `overwrite` is not set.
        """
        write_json(check_target(path, overwrite=overwrite), self.to_dicts())
