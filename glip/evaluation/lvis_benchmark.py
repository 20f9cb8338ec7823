"""LVIS v1 files: what a model is asked, and how its answers are scored."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from glip.annotations import (
    annotations_by_image,
    category_names,
    distinct_names,
    field,
    is_number,
    is_whole,
    picture_name,
    read_object,
    read_predictions,
    xywh_of,
)
from glip.errors import DataError
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
from glip.evaluation.lvis import FREQUENCIES, PER_IMAGE, Protocol, score_lvis
from glip.structures.detections import Detections


@dataclass(frozen=True, kw_only=True)
class LvisBenchmark(Benchmark):
    """LVIS v1, all categories of the file.

    Attributes:
        annotations: the JSON file.
        images: folder that `file_name` is relative to (without it, the last two parts of `coco_url`); None for the
            file's own.
        protocol: "fixed" or "standard".
        chunk_size: most names in a caption; None for as many as fit. The published numbers use 40.
    """

    name: ClassVar[str] = "lvis"
    fields: ClassVar[tuple[str, ...]] = ("image_id", "boxes", "scores", "labels")
    max_detections: ClassVar[int | None] = PER_IMAGE  # of each caption, as published

    annotations: Path
    images: Path | None = None
    protocol: Protocol = "fixed"
    chunk_size: int | None = None

    @cached_property
    def truth(self) -> Record:
        """The file's content, checked; it is read once."""
        return read_lvis_truth(self.annotations)

    def settings(self) -> Record:
        """The file, the protocol and the caption's rule."""
        return {
            "annotations": str(self.annotations),
            "annotations_hash": fingerprint(self.annotations),
            "images": str(folder_of(self.annotations, self.images)),
            "protocol": self.protocol,
            "chunk_size": self.chunk_size,
            "prompt order": "by category id",
        }

    def questions(self) -> list[Question]:
        """All categories by id, of every image."""
        content = self.truth
        names = category_names(self.annotations, content)
        ids = tuple(sorted(names))
        words = Vocabulary(tuple(names[key] for key in ids), ids, chunk_size=self.chunk_size)
        folder = folder_of(self.annotations, self.images)
        return [
            Question((record["id"],), folder / picture_name(self.annotations, record), words)
            for record in content["images"]
        ]

    def answer(self, question: Question, found: Detections) -> Record:
        """Image id, boxes, scores and category ids."""
        return labelled_boxes(question, found)

    def read(self, path: Path) -> list[Record]:
        """Records of this benchmark, or of a results file in COCO's format."""
        records = read_predictions(path, ("image_id",))
        if is_results_file(records):
            records = read_predictions(path, ("image_id", "category_id", "bbox", "score"))
            wrong = [record["category_id"] for record in records if not is_whole(record["category_id"])]
            if wrong:
                raise DataError(f"{path}: category_id must be a whole number, got {wrong[0]!r:.40}")
            return records
        return super().read(path)

    def score(self, predictions: Sequence[Record]) -> Record:
        """LVIS's numbers, and AP of each category by its name."""
        truth = self.truth
        known = {image["id"] for image in truth["images"]}
        strangers = {record["image_id"] for record in predictions} - known
        if strangers:
            raise DataError(f"predictions: image {min(strangers, key=str)!r} is not in the annotation file")
        if is_results_file(predictions):
            predictions = _by_image(predictions)
        report = score_lvis(truth, predictions, protocol=self.protocol)
        names = distinct_names(category_names(self.annotations, truth))
        per_class = {names[key]: {"AP": value} for key, value in report.per_category.items()}
        limit = "@300" if self.protocol == "standard" else "@-1"  # of detections an image, in the reference's names
        recalls = {f"{name}{limit}": report.metrics[name] for name in report.metrics if name.startswith("AR")}
        return {**report.metrics, **recalls, "per_class": per_class}


def _by_image(results: Iterable[Record]) -> list[Record]:
    """Records of a results file as predictions of each image."""
    by_image: dict[int, Record] = {}
    for result in results:
        record = by_image.setdefault(
            result["image_id"], {"image_id": result["image_id"], "boxes": [], "scores": [], "labels": []}
        )
        x, y, width, height = result["bbox"]
        record["boxes"].append([x, y, x + width, y + height])
        record["scores"].append(result["score"])
        record["labels"].append(result["category_id"])
    return list(by_image.values())


def read_lvis_truth(path: str | Path) -> Record:
    """An LVIS v1 file with every field that the metrics need checked.

    Raises:
        FileError: there is no such file.
        DataError: a record is not of this form; the message names it.
    """
    content = read_object(path)
    names = category_names(path, content)
    annotations_by_image(path, content)
    for where in ("categories", "images"):
        for record in content[where]:
            if not is_whole(record["id"]):
                raise DataError(f"{path}: {where} id must be a whole number, got {record['id']!r:.40}")
    for category in content["categories"]:
        if field(path, category, "categories", "frequency") not in FREQUENCIES:
            raise DataError(
                f"{path}: category {category['id']}: frequency must be r, c or f, got {category['frequency']!r:.40}"
            )
    for record in content["images"]:
        for name in ("neg_category_ids", "not_exhaustive_category_ids"):
            given = field(path, record, "images", name)
            if not isinstance(given, list) or not all(is_whole(entry) for entry in given):
                raise DataError(
                    f"{path}: images record {record['id']}: {name} must be a list of ids, got {given!r:.60}"
                )
    _check_annotations(path, content, names)
    return content


def _check_annotations(path: str | Path, content: Record, names: Collection[int | str]) -> None:
    for annotation in content["annotations"]:
        where = f"{path}: annotation {annotation.get('id')!r:.40}"
        if field(path, annotation, "annotations", "category_id") not in names:
            raise DataError(
                f"{where}: category_id {annotation['category_id']!r:.40} is not in categories; add it there"
            )
        if not is_number(field(path, annotation, "annotations", "area")):
            raise DataError(f"{where}: area must be a number, got {annotation['area']!r:.40}")
        xywh_of(path, annotation)


def _check_id(path: str | Path, record: Record, where: str) -> None:
    if not is_whole(record["id"]):
        raise DataError(f"{path}: {where} id must be a whole number, got {record['id']!r:.40}")
