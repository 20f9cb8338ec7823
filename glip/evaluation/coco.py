"""COCO's average precision, by pycocotools."""

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from glip.annotations import annotations_by_image, category_names, field, read_object, section, xywh_of
from glip.errors import ConfigError, DataError
from glip.evaluation.benchmark import Benchmark, Question, Record, Vocabulary, folder_of, labelled_boxes
from glip.structures.detections import Detections
from glip.text.prompts import Affix

LEGACY_PIXEL = 1  # corners as pixel indices: a side is x2 - x1 + 1
BACKGROUND_ID = 0
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR@1", "AR@10", "AR@100", "ARs@100", "ARm@100", "ARl@100")


@dataclass(frozen=True)
class CocoReport:
    """COCO's numbers.

    Attributes:
        metrics: fractions in `[0, 1]` by the names in `METRICS`; -1 where undefined, 0 without any result.
        per_class: AP and AP50 by category id; -1 for a class without a box.
    """

    metrics: dict[str, float]
    per_class: dict[Any, dict[str, float]]


def coco_results(
    annotations: Mapping[str, Any], predictions: Iterable[Mapping[str, Any]], *, plus_one: bool = False
) -> list[dict[str, Any]]:
    """Detections of a class list as records of a COCO results file.

    Args:
        annotations: content of a COCO detection file.
        predictions: records `{image_id, boxes, scores, labels}`, boxes xyxy pixels, labels counted from 1 in the order
            of the file's categories; other labels are dropped.
        plus_one: whether a side counts one pixel more, as in GLIP's published numbers.
    """
    ids = [category["id"] for category in annotations["categories"]]
    pixel = LEGACY_PIXEL if plus_one else 0
    return [
        {
            "image_id": record["image_id"],
            "category_id": ids[label - 1],
            "bbox": [x1, y1, x2 - x1 + pixel, y2 - y1 + pixel],
            "score": score,
        }
        for record in predictions
        for (x1, y1, x2, y2), score, label in zip(record["boxes"], record["scores"], record["labels"], strict=True)
        if 1 <= label <= len(ids)
    ]


def coco_metrics(annotations: Mapping[str, Any], results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The twelve COCO numbers; see `coco_report`."""
    return coco_report(annotations, results).metrics


def coco_report(annotations: Mapping[str, Any], results: Sequence[dict[str, Any]]) -> CocoReport:
    """The twelve COCO numbers, and AP of each class.

    Args:
        annotations: content of a COCO detection file; an annotation without `area` or `iscrowd` counts as a plain box.
        results: records as `Detections.to_coco` gives them, of all images.

    Raises:
        DataError: a result is of an image that is not annotated.
    """
    strangers = {record["image_id"] for record in results} - {image["id"] for image in annotations["images"]}
    if strangers:
        raise DataError(f"results: image {min(strangers, key=str)} is not in the annotation file")
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ConfigError("COCO's metrics need pycocotools: pip install 'glip-for-everyone[train]'") from error
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        truth = COCO()
        truth.dataset = {**annotations, "annotations": _complete(annotations["annotations"])}
        truth.createIndex()
        if not results:
            return CocoReport(dict.fromkeys(METRICS, 0.0), _without_results(annotations))
        evaluation = COCOeval(truth, truth.loadRes([dict(record) for record in results]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # (IoU, recall, class), all sizes, 100 an image
    per_class = {
        key: {"AP": _mean(precision[:, :, column]), "AP50": _mean(precision[0, :, column])}
        for column, key in enumerate(evaluation.params.catIds)
    }
    return CocoReport(dict(zip(METRICS, map(float, evaluation.stats), strict=True)), per_class)


@dataclass(frozen=True, kw_only=True)
class CocoBenchmark(Benchmark):
    """A detection file in COCO's format, with GLIP's caption of all its classes.

    Attributes:
        annotations: the JSON file.
        images: folder of the pictures; None for the file's own.
        plus_one: whether a side counts one pixel more, as in GLIP's published numbers.
        chunk_size: most names in a caption; None for as many as fit.
        names: other names of classes, by the file's own.
        affixes: (prefix, name, suffix) of each class in the file's order, a manual prompt.
    """

    name: ClassVar[str] = "coco"
    fields: ClassVar[tuple[str, ...]] = ("image_id", "boxes", "scores", "labels")

    annotations: Path
    images: Path | None = None
    plus_one: bool = False
    chunk_size: int | None = None
    names: Mapping[str, str] | None = None
    affixes: tuple[Affix, ...] | None = None

    def settings(self) -> Record:
        """The file, the caption's rules and the box convention."""
        return {
            "annotations": str(self.annotations),
            "plus_one": self.plus_one,
            "chunk_size": self.chunk_size,
            "affixes": None if self.affixes is None else [list(affix) for affix in self.affixes],
            "prompt order": self._labels(read_object(self.annotations)),
        }

    def questions(self) -> list[Question]:
        """All classes, of every image."""
        content = read_object(self.annotations)
        labels = self._labels(content)
        words = Vocabulary(tuple(labels), tuple(range(1, len(labels) + 1)), self.affixes, self.chunk_size)
        folder = folder_of(self.annotations, self.images)
        return [
            Question(
                (field(self.annotations, record, "images", "id"),),
                folder / str(field(self.annotations, record, "images", "file_name")),
                words,
            )
            for record in section(self.annotations, content, "images")
        ]

    def answer(self, question: Question, found: Detections) -> Record:
        """Image id, boxes, scores and labels, counted from 1 in the order of the file's categories."""
        return labelled_boxes(question, found)

    def score(self, predictions: Sequence[Record]) -> Record:
        """The twelve numbers, and AP and AP50 of each class by its name."""
        truth = read_coco_truth(self.annotations)
        report = coco_report(truth, coco_results(truth, predictions, plus_one=self.plus_one))
        names = {category["id"]: category["name"] for category in truth["categories"]}
        return {**report.metrics, "per_class": {names[key]: numbers for key, numbers in report.per_class.items()}}

    def _labels(self, content: Record) -> list[str]:
        given = category_names(self.annotations, _without_background(content)).values()
        return [(self.names or {}).get(name, name) for name in given]


@dataclass(frozen=True, kw_only=True)
class CocoJsonBenchmark(CocoBenchmark):
    """Anybody's own photos with boxes, in COCO's format."""

    name: ClassVar[str] = "coco-json"


def read_coco_truth(path: str | Path) -> Record:
    """A COCO detection file with every field that the metrics need checked.

    Raises:
        FileError: there is no such file.
        DataError: a record is not of this form; the message names it.
    """
    content = _without_background(read_object(path))
    names = category_names(path, content)
    annotations_by_image(path, content)
    for annotation in section(path, content, "annotations"):
        category = field(path, annotation, "annotations", "category_id")
        if category not in names:
            raise DataError(
                f"{path}: annotation {annotation.get('id')}: category_id {category!r} is not in categories; "
                "add it there"
            )
        xywh_of(path, annotation)
    return content


def _without_background(content: Record) -> Record:
    """The content without a category 0 that no box has: some files hold a background there."""
    used = any(annotation.get("category_id") == BACKGROUND_ID for annotation in content.get("annotations") or [])
    categories = content.get("categories")
    if used or not isinstance(categories, list):
        return content
    kept = [c for c in categories if not isinstance(c, dict) or c.get("id") != BACKGROUND_ID]
    return {**content, "categories": kept}


def _complete(annotations: Iterable[Mapping[str, Any]]) -> list[Record]:
    """Copies with every field that pycocotools asks for."""
    return [
        {"id": number, "area": record["bbox"][2] * record["bbox"][3], "iscrowd": 0, **record}
        for number, record in enumerate(annotations, start=1)
    ]


def _without_results(annotations: Mapping[str, Any]) -> dict[Any, dict[str, float]]:
    """AP of each class where nothing was found: 0, or -1 without a box."""
    present = {record["category_id"] for record in annotations["annotations"] if not record.get("iscrowd")}
    ids = [category["id"] for category in annotations["categories"]]
    return {key: dict.fromkeys(("AP", "AP50"), 0.0 if key in present else -1.0) for key in ids}


def _mean(precision: Any) -> float:
    """Mean of what is defined; -1 if nothing is."""
    defined = precision[precision > -1]
    return float(np.mean(defined)) if defined.size else -1.0
