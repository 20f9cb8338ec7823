"""Referring expressions on RefCOCO, RefCOCO+ and RefCOCOg: precision@k of one box an expression."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch

from glip.annotations import annotations_by_image, field, read_object, xywh_of
from glip.errors import DataError
from glip.evaluation.benchmark import Benchmark, Question, Record, fingerprint, folder_of, scored_boxes
from glip.evaluation.recall import Overlap, Query, RecallReport, count_hits
from glip.structures.boxes import xywh_to_xyxy
from glip.structures.detections import Detections
from glip.text.prompts import prompt_from_expression

RANKS = (1, 5, 10)


def score_refcoco(
    annotations: Mapping[str, Any], predictions: Iterable[Mapping[str, Any]], *, overlap: Overlap = "iou"
) -> RecallReport:
    """Precision@1, 5 and 10.

    Args:
        annotations: content of a file in MDETR's layout: one image record and one annotation an expression.
        predictions: records `{image_id, boxes, scores}`, boxes xyxy pixels in any order; an expression without a
            record, or with an empty one, is a miss.
        overlap: "iou" as papers define it, or "giou" as MDETR's code does.

    Raises:
        DataError: a prediction is of an expression that is not annotated.
    """
    truth = {record["image_id"]: record["bbox"] for record in annotations["annotations"]}
    found: dict[Any, Mapping[str, Any]] = {}
    for record in predictions:
        if record["image_id"] in found:
            raise DataError(f"predictions: expression {record['image_id']!r} stands there twice; give one record each")
        found[record["image_id"]] = record
    strangers = found.keys() - truth.keys()
    if strangers:
        raise DataError(f"predictions: expression {min(strangers, key=str)} is not in the annotation file")
    nothing: dict[str, list[float]] = {"boxes": [], "scores": []}
    queries = [
        Query(
            torch.tensor(found.get(key, nothing)["boxes"], dtype=torch.float64).view(-1, 4),
            torch.tensor(found.get(key, nothing)["scores"], dtype=torch.float64),
            xywh_to_xyxy(torch.tensor([bbox], dtype=torch.float64)),
        )
        for key, bbox in truth.items()
    ]
    return count_hits(queries, ranks=RANKS, overlap=overlap)


@dataclass(frozen=True, kw_only=True)
class RefCocoBenchmark(Benchmark):
    """Referring expressions of a file in MDETR's layout.

    Attributes:
        annotations: the JSON file.
        images: folder of the pictures; None for the file's own.
        overlap: "iou" as papers define it, or "giou" as MDETR's code does.
    """

    name: ClassVar[str] = "refcoco"
    fields: ClassVar[tuple[str, ...]] = ("image_id", "boxes", "scores")
    expressions: ClassVar[bool] = True

    annotations: Path
    images: Path | None = None
    overlap: Overlap = "iou"

    @cached_property
    def truth(self) -> Record:
        """The file's content, checked; it is read once."""
        return read_refcoco_truth(self.annotations)

    def settings(self) -> Record:
        """The file and the overlap."""
        return {
            "annotations": str(self.annotations),
            "annotations_hash": fingerprint(self.annotations),
            "images": str(folder_of(self.annotations, self.images)),
            "overlap": self.overlap,
        }

    def questions(self) -> list[Question]:
        """One an expression; all of it is the phrase."""
        folder = folder_of(self.annotations, self.images)
        return [
            Question(
                (record["id"],),
                folder / str(field(self.annotations, record, "images", "file_name")),
                prompt_from_expression(str(field(self.annotations, record, "images", "caption"))),
            )
            for record in self.truth["images"]
        ]

    def answer(self, question: Question, found: Detections) -> Record:
        """The expression's id, boxes and scores."""
        return {"image_id": question.key[0], **scored_boxes(found)}

    def score(self, predictions: Sequence[Record]) -> Record:
        """Precisions and hits of each rank, and how many expressions there are."""
        report = score_refcoco(self.truth, predictions, overlap=self.overlap)
        shares = {rank.replace("recall", "precision"): by_kind["all"] for rank, by_kind in report.recall.items()}
        hits = {rank.replace("recall", "precision"): by_kind["all"] for rank, by_kind in report.hits.items()}
        return {**shares, "hits": hits, "totals": report.totals}


def read_refcoco_truth(path: str | Path) -> Record:
    """A file in MDETR's layout: each image record is an expression, and has one annotation.

    Raises:
        FileError: there is no such file.
        DataError: a record is not of this form; the message names it.
    """
    content = read_object(path)
    by_image = annotations_by_image(path, content)
    for record in content["images"]:
        found = by_image.get(record["id"], [])
        if len(found) != 1:
            raise DataError(f"{path}: images record {record['id']!r}: needs one annotation, has {len(found)}")
        xywh_of(path, found[0])
    return content
