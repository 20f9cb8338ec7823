"""COCO's average precision, by pycocotools."""

import contextlib
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from glip.annotations import (
    annotations_by_image,
    category_names,
    distinct_names,
    field,
    is_number,
    read_object,
    read_predictions,
    section,
    xywh_of,
)
from glip.errors import ConfigError, DataError
from glip.evaluation.benchmark import (
    Benchmark,
    Question,
    Record,
    Vocabulary,
    fingerprint,
    folder_of,
    is_results_file,
    labelled_boxes,
)
from glip.structures.detections import Detections
from glip.structures.masks import masks_of
from glip.text.prompts import Affix

LEGACY_PIXEL = 1  # corners as pixel indices: a side is x2 - x1 + 1
BACKGROUND_ID = 0
Shape = Literal["bbox", "segm"]
RESULT_FIELDS = ("image_id", "category_id", "bbox", "score")
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR@1", "AR@10", "AR@100", "ARs@100", "ARm@100", "ARl@100")


@dataclass(frozen=True)
class CocoReport:
    """COCO's numbers.

    Attributes:
        metrics: fractions in `[0, 1]` by the names in `METRICS`; -1 where undefined.
        per_class: AP and AP50 by category id; -1 for a class without a box.
    """

    metrics: dict[str, float]
    per_class: dict[Any, dict[str, float]]


def coco_results(
    annotations: Mapping[str, Any], predictions: Sequence[Record], *, plus_one: bool = False
) -> list[dict[str, Any]]:
    """Detections of a class list as records of a COCO results file.

    Args:
        annotations: content of a COCO detection file.
        predictions: records `{image_id, boxes, scores, labels}`, boxes xyxy pixels, labels counted from 1 in the order
            of the file's categories, other labels are dropped; or records of a COCO results file, left as they are.
        plus_one: whether a side counts one pixel more, as in GLIP's published numbers.
    """
    if is_results_file(predictions):
        return [dict(record) for record in predictions]
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


def coco_metrics(
    annotations: Mapping[str, Any], results: Sequence[dict[str, Any]], *, shape: Shape = "bbox"
) -> dict[str, float]:
    """The twelve COCO numbers; see `coco_report`."""
    return coco_report(annotations, results, shape=shape).metrics


def coco_report(
    annotations: Mapping[str, Any], results: Sequence[dict[str, Any]], *, shape: Shape = "bbox"
) -> CocoReport:
    """The twelve COCO numbers, and AP of each class.

    Args:
        annotations: content of a COCO detection file; an annotation without `area` or `iscrowd` counts as a plain box,
            or as its whole mask.
        results: records as `Detections.to_coco` gives them, of all images; with `segmentation` for "segm", see
            `glip.structures.masks.encode_masks`.
        shape: "bbox" for IoU of boxes, "segm" for IoU of instance masks.

    Raises:
        DataError: a result is of an image that is not annotated, or lacks its mask.
    """
    known = {image["id"] for image in annotations["images"]}
    strangers = {record["image_id"] for record in results} - known
    if strangers:
        raise DataError(f"results: image {min(strangers, key=str)} is not in the annotation file")
    ids = [category["id"] for category in annotations["categories"]]
    if not known or not ids:  # pycocotools stops at nothing
        return CocoReport(dict.fromkeys(METRICS, -1.0), {key: {"AP": -1.0, "AP50": -1.0} for key in ids})
    truths, found_records = annotations["annotations"], results
    if shape == "segm":
        truths, found_records = _with_mask_areas(annotations), [_only_mask(record) for record in results]
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ConfigError("COCO's metrics need pycocotools: pip install 'glip-for-everyone[train]'") from error
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        truth = COCO()
        truth.dataset = {**annotations, "annotations": _complete(truths)}
        truth.createIndex()
        found = truth.loadRes([dict(record) for record in found_records]) if results else COCO()
        evaluation = COCOeval(truth, found, shape)
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
        classes: (category id, name) of the classes that are asked for and scored, in the prompt's order; None for all
            in the file's order, but for a category 0 that no box has: some files hold a background there.
        affixes: (prefix, name, suffix) of each class in the same order, a manual prompt.
    """

    name: ClassVar[str] = "coco"
    fields: ClassVar[tuple[str, ...]] = ("image_id", "boxes", "scores", "labels")

    annotations: Path
    images: Path | None = None
    plus_one: bool = False
    chunk_size: int | None = None
    classes: tuple[tuple[int | str, str], ...] | None = None
    affixes: tuple[Affix, ...] | None = None

    @cached_property
    def truth(self) -> Record:
        """The file's content, checked; it is read once."""
        return read_coco_truth(self.annotations)

    def settings(self) -> Record:
        """The file, the caption's rules and the box convention."""
        return {
            "annotations": str(self.annotations),
            "annotations_hash": fingerprint(self.annotations),
            "images": str(folder_of(self.annotations, self.images)),
            "plus_one": self.plus_one,
            "chunk_size": self.chunk_size,
            "affixes": None if self.affixes is None else [list(affix) for affix in self.affixes],
            "prompt order": [name for _, name in self._asked(self.truth)],
        }

    def questions(self) -> list[Question]:
        """All classes, of every image."""
        content = self.truth
        place = {category["id"]: number for number, category in enumerate(content["categories"], start=1)}
        asked = self._asked(content)
        ids = tuple(place[key] for key, _ in asked)
        words = Vocabulary(tuple(name for _, name in asked), ids, self.affixes, self.chunk_size)
        folder = folder_of(self.annotations, self.images)
        return [
            Question((record["id"],), folder / str(field(self.annotations, record, "images", "file_name")), words)
            for record in content["images"]
        ]

    def answer(self, question: Question, found: Detections) -> Record:
        """Image id, boxes, scores and labels, counted from 1 in the order of the file's categories."""
        return labelled_boxes(question, found)

    def read(self, path: Path) -> list[Record]:
        """Records of this benchmark, or of a COCO results file."""
        records = read_predictions(path, ("image_id",))
        if is_results_file(records):
            return read_predictions(path, RESULT_FIELDS)
        return super().read(path)

    def coco_results(self, predictions: Sequence[Record]) -> list[Record]:
        """As pycocotools and others read them."""
        return coco_results(self.truth, predictions, plus_one=self.plus_one)

    def score(self, predictions: Sequence[Record]) -> Record:
        """The twelve numbers, and AP and AP50 of each class by its name."""
        truth = self.truth
        results = coco_results(truth, predictions, plus_one=self.plus_one)
        if self.classes is not None:
            truth = _only_classes(truth, {key for key, _ in self.classes})
        known = {category["id"] for category in truth["categories"]}
        report = coco_report(truth, [record for record in results if record["category_id"] in known])
        names = distinct_names(category_names(self.annotations, truth))
        return {**report.metrics, "per_class": {names[key]: numbers for key, numbers in report.per_class.items()}}

    def _asked(self, content: Record) -> list[tuple[int | str, str]]:
        names = category_names(self.annotations, content)
        if self.classes is not None:
            return list(self.classes)
        used = {annotation["category_id"] for annotation in content["annotations"]}
        return [(key, name) for key, name in names.items() if key != BACKGROUND_ID or key in used]


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
    content = read_object(path)
    names = category_names(path, content)
    annotations_by_image(path, content)
    for annotation in section(path, content, "annotations"):
        where = f"{path}: annotation {annotation.get('id')!r:.40}"
        category = field(path, annotation, "annotations", "category_id")
        if category not in names:
            raise DataError(f"{where}: category_id {category!r:.40} is not in categories; add it there")
        xywh_of(path, annotation)
        if not is_number(annotation.get("area", 0)):
            raise DataError(f"{where}: area must be a number, got {annotation['area']!r:.40}")
        if annotation.get("iscrowd", 0) not in (0, 1):
            raise DataError(f"{where}: iscrowd must be 0 or 1, got {annotation['iscrowd']!r:.40}")
    return content


def with_plain_ids(truth: Record, results: Sequence[Record]) -> tuple[Record, list[Record]]:
    """The same truth and results with images and categories numbered from 1, whatever their ids were.

    Raises:
        DataError: a result is of an image or category that is not in the truth.
    """
    images = {record["id"]: number for number, record in enumerate(truth["images"], start=1)}
    categories = {record["id"]: number for number, record in enumerate(truth["categories"], start=1)}
    names = distinct_names({record["id"]: record["name"] for record in truth["categories"]})

    def renamed(records: Sequence[Record], what: str) -> list[Record]:
        for record in records:
            if record["image_id"] not in images or record["category_id"] not in categories:
                raise DataError(
                    f"{what}: image {record['image_id']!r:.40} or category {record['category_id']!r:.40} is not in the "
                    "annotation file"
                )
        return [
            {**record, "image_id": images[record["image_id"]], "category_id": categories[record["category_id"]]}
            for record in records
        ]

    plain = {
        **truth,
        "images": [{**record, "id": images[record["id"]]} for record in truth["images"]],
        "categories": [
            {**record, "id": categories[record["id"]], "name": names[record["id"]]} for record in truth["categories"]
        ],
        "annotations": renamed(truth["annotations"], "annotations"),
    }
    return plain, renamed(results, "results")


def _only_classes(truth: Record, ids: Collection[Any]) -> Record:
    """The truth of some categories."""
    return {
        **truth,
        "categories": [category for category in truth["categories"] if category["id"] in ids],
        "annotations": [annotation for annotation in truth["annotations"] if annotation["category_id"] in ids],
    }


def _complete(annotations: Iterable[Mapping[str, Any]]) -> list[Record]:
    """Copies with every field that pycocotools asks for, numbered from 1: it takes number 0 for "no match"."""
    return [
        {"area": record["bbox"][2] * record["bbox"][3], "iscrowd": 0, **record, "id": number}
        for number, record in enumerate(annotations, start=1)
    ]


def _with_mask_areas(annotations: Mapping[str, Any]) -> list[Record]:
    """The annotations; one without an area gets that of its mask."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in annotations["images"]}
    return [
        record
        if "area" in record
        else {**record, "area": int(masks_of([_mask(record)], sizes[record["image_id"]]).sum())}
        for record in annotations["annotations"]
    ]


def _only_mask(record: Record) -> Record:
    """A result without its box: pycocotools would take the box's area for the mask's."""
    return {"segmentation": _mask(record), **{key: value for key, value in record.items() if key != "bbox"}}


def _mask(record: Mapping[str, Any]) -> Any:
    if not record.get("segmentation"):
        raise DataError(
            f"image {record['image_id']!r:.40}: a record has no segmentation; give each its mask, or ask for boxes"
        )
    return record["segmentation"]


def _mean(precision: Any) -> float:
    """Mean of what is defined; -1 if nothing is."""
    defined = precision[precision > -1]
    return float(np.mean(defined)) if defined.size else -1.0
