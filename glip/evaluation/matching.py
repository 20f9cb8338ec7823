"""Which detections are right, and what is wrong with the others.

Matching is COCO's: within an image and a class the best score chooses first, among the true boxes that are still free.
The kinds of error follow TIDE (Bolya et al. 2020), with plainer names.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from glip.errors import ConfigError, DataError

Kind = Literal["right", "duplicate", "wrong word", "bad box", "background"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

KINDS: tuple[Kind, ...] = get_args(Kind)
IOU_THRESHOLD = 0.5
NEAR = 0.1  # least IoU of a bad box, as in TIDE
CROWD_SHARE = 0.5  # of a detection's area that makes it one of the crowd
BLOCK = 10_000  # detections of one image that are compared at a time, to bound memory


@dataclass(frozen=True, eq=False)
class LabelledBoxes:
    """N boxes of any images, each with its class.

    Attributes:
        image_ids: `(N,)` int64.
        category_ids: `(N,)` int64.
        boxes_xywh: `(N, 4)` float64, xywh pixels.
    """

    image_ids: Ints
    category_ids: Ints
    boxes_xywh: Floats

    def __len__(self) -> int:
        """The number of boxes."""
        return len(self.image_ids)

    def take(self, which: Ints | Bools) -> "LabelledBoxes":
        """Some of them, by indices or mask."""
        return LabelledBoxes(self.image_ids[which], self.category_ids[which], self.boxes_xywh[which])


@dataclass(frozen=True, eq=False)
class Matching:
    """What each of N detections is, and which of M true boxes they found.

    Attributes:
        detections: N boxes, sorted by image id, within an image the best score first; classes are what they say.
        scores: `(N,)` float64.
        kinds: `(N,)` strings out of `KINDS`.
        met: `(N,)` int64, index into `truths` of the box that decided the kind; -1 for background.
        truths: the M true boxes that count (all but crowd regions), sorted by image id.
        names: by category id, in the file's order; where two categories share a name, the id stands behind it.
    """

    detections: LabelledBoxes
    scores: Floats
    kinds: npt.NDArray[np.str_]
    met: Ints
    truths: LabelledBoxes
    names: Mapping[int, str]

    def __len__(self) -> int:
        """The number of detections."""
        return len(self.scores)

    @property
    def is_right(self) -> Bools:
        """`(N,)`, True for detections that took a true box."""
        is_right: Bools = self.kinds == "right"
        return is_right

    @property
    def missed(self) -> LabelledBoxes:
        """The true boxes that no detection took."""
        is_free = np.ones(len(self.truths), np.bool_)
        is_free[self.met[self.is_right]] = False
        return self.truths.take(is_free)


def match_detections(
    annotations: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    threshold: float = 0.0,
    iou: float = IOU_THRESHOLD,
) -> Matching:
    """Give each detection, best score first, the free true box of its class that it overlaps most.

    A detection that gets none is, by the first rule that holds:

    - left out, if half of its area is in a crowd region of its class: it may be one more of the crowd (COCO's rule);
    - a "duplicate", if it meets a true box of its class, which a better detection took;
    - a "wrong word", if it meets a true box of another class;
    - a "bad box", if it has an IoU of at least 0.1 with a true box of its class;
    - else "background".

    Args:
        annotations: content of a COCO detection file.
        results: records of a COCO results file, boxes xywh pixels; of equal scores the one given first is better.
        threshold: least score; detections below it are left out.
        iou: least overlap, in `(0, 1]`, at which a detection meets a true box; equality counts.

    Raises:
        ConfigError: `iou` is out of range.
        DataError: a record lacks a field, names an unknown image or category, or has a box or score that is no number.
    """
    if not 0 < iou <= 1:
        raise ConfigError(f"iou must be above 0 and at most 1, got {iou}")
    _check_records("annotations", annotations["annotations"], annotations, is_result=False)
    _check_records("results", results, annotations, is_result=True)
    is_crowd = np.array([bool(record.get("iscrowd", 0)) for record in annotations["annotations"]], np.bool_)
    labelled = _read_boxes(annotations["annotations"])
    truths, crowds = (_sort_by_image(labelled.take(which)) for which in (~is_crowd, is_crowd))
    results = [record for record in results if record["score"] >= threshold]
    detections, scores = _read_boxes(results), np.array([record["score"] for record in results], np.float64)
    order = np.lexsort((-scores, detections.image_ids))
    detections, scores = detections.take(order), scores[order]
    kinds, met = _judge(detections, truths, min(iou, 1 - 1e-10))  # COCO's margin: an IoU of 1 may be rounded
    kept = (kinds == "right") | ~_is_in_crowd(detections, crowds)
    names = _name_categories(annotations["categories"])
    return Matching(detections.take(kept), scores[kept], kinds[kept], met[kept], truths, names)


def _check_records(
    what: str, records: Iterable[Mapping[str, Any]], annotations: Mapping[str, Any], *, is_result: bool
) -> None:
    images = {image["id"] for image in annotations["images"]}
    categories = {category["id"] for category in annotations["categories"]}
    fields = {"image_id", "category_id", "bbox", *(["score"] if is_result else [])}
    for index, record in enumerate(records):
        where = f"{what}[{index}]"
        if missing := fields - record.keys():
            raise DataError(f"{where}: needs {', '.join(sorted(fields))}, but has no {', '.join(sorted(missing))}")
        if record["image_id"] not in images:
            raise DataError(f"{where}: image {record['image_id']!r} is not among the images of the annotation file")
        if record["category_id"] not in categories:
            raise DataError(
                f"{where}: category {record['category_id']!r} is not among the categories of the annotation file"
            )
        if not _are_numbers(record["bbox"], 4):
            raise DataError(f"{where}: bbox must be four numbers (x, y, width, height), got {record['bbox']!r}")
        if is_result and not _are_numbers([record["score"]], 1):
            raise DataError(f"{where}: score must be a number, got {record['score']!r}")


def _are_numbers(values: Sequence[Any], count: int) -> bool:
    """Whether these are so many finite numbers."""
    try:
        return len(values) == count and all(map(math.isfinite, values))
    except TypeError:
        return False


def _read_boxes(records: Sequence[Mapping[str, Any]]) -> LabelledBoxes:
    return LabelledBoxes(
        np.array([record["image_id"] for record in records], np.int64),
        np.array([record["category_id"] for record in records], np.int64),
        np.array([record["bbox"] for record in records], np.float64).reshape(-1, 4),
    )


def _sort_by_image(boxes: LabelledBoxes) -> LabelledBoxes:
    return boxes.take(np.argsort(boxes.image_ids, kind="stable"))


def _name_categories(categories: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Names by id, all different."""
    count = Counter(category["name"] for category in categories)
    return {
        category["id"]: category["name"] if count[category["name"]] == 1 else f"{category['name']} ({category['id']})"
        for category in categories
    }


def _judge(detections: LabelledBoxes, truths: LabelledBoxes, iou: float) -> tuple[npt.NDArray[np.str_], Ints]:
    """`Matching.kinds` and `Matching.met` of detections that are sorted, the best of an image first."""
    kinds = np.full(len(detections), "background")
    met = np.full(len(detections), -1, np.int64)
    pairs: list[tuple[Ints, Ints, Floats]] = []
    for rows, columns in _shared_images(detections, truths):
        overlaps = _overlaps(detections.boxes_xywh[rows], truths.boxes_xywh[columns])
        is_same = detections.category_ids[rows, None] == truths.category_ids[None, columns]
        same, other = np.where(is_same, overlaps, 0), np.where(is_same, 0, overlaps)
        for kind, values, least in (("bad box", same, NEAR), ("wrong word", other, iou), ("duplicate", same, iou)):
            is_kind = values.max(axis=1) >= least
            kinds[rows][is_kind] = kind
            met[rows][is_kind] = columns.start + values.argmax(axis=1)[is_kind]
        row, column = np.nonzero(same >= iou)
        pairs.append((rows.start + row, columns.start + column, same[row, column]))
    right, taken = _take_best(pairs)
    kinds[right] = "right"
    met[right] = taken
    return kinds, met


def _take_best(pairs: Sequence[tuple[Ints, Ints, Floats]]) -> tuple[list[int], list[int]]:
    """Detections, in their order, each with the free true box that it overlaps most; of equal ones the last, as COCO.

    Args:
        pairs: arrays of equal length: detections, true boxes, their overlaps.
    """
    if not pairs:
        return [], []
    rows, columns, overlaps = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    order = np.lexsort((-columns, -overlaps, rows))
    takers: dict[int, int] = {}  # by true box
    last = -1  # detection that has its box; a detection's pairs follow each other
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row != last and column not in takers:
            takers[column] = last = row
    return list(takers.values()), list(takers)


def _is_in_crowd(detections: LabelledBoxes, crowds: LabelledBoxes) -> Bools:
    """`(N,)`, True where enough of a detection's area lies in a crowd region of its class."""
    found = np.zeros(len(detections), np.bool_)
    for rows, columns in _shared_images(detections, crowds):
        shares = _overlaps(detections.boxes_xywh[rows], crowds.boxes_xywh[columns], is_crowd=True)
        is_same = detections.category_ids[rows, None] == crowds.category_ids[None, columns]
        found[rows] = (is_same & (shares >= CROWD_SHARE)).any(axis=1)
    return found


def _shared_images(detections: LabelledBoxes, others: LabelledBoxes) -> Iterator[tuple[slice, slice]]:
    """Rows of both sorted tables that are of one image, for images in both; at most `BLOCK` detections at a time."""
    images = np.intersect1d(detections.image_ids, others.image_ids)
    bounds = [
        np.searchsorted(table.image_ids, images, side=side).tolist()
        for table in (detections, others)
        for side in ("left", "right")
    ]
    for first, last, start, stop in zip(*bounds, strict=True):
        for block in range(first, last, BLOCK):
            yield slice(block, min(block + BLOCK, last)), slice(start, stop)


def _overlaps(boxes_xywh: Floats, others_xywh: Floats, *, is_crowd: bool = False) -> Floats:
    """`(N, M)` IoU in `[0, 1]`, or with crowds the share of a box that lies in the other; negative sides count as 0."""
    low, sides = boxes_xywh[:, None, :2], boxes_xywh[:, None, 2:].clip(min=0)
    other_low, other_sides = others_xywh[None, :, :2], others_xywh[None, :, 2:].clip(min=0)
    shared = (np.minimum(low + sides, other_low + other_sides) - np.maximum(low, other_low)).clip(min=0).prod(axis=2)
    area = sides.prod(axis=2)
    whole = area if is_crowd else area + other_sides.prod(axis=2) - shared
    overlaps: Floats = np.where(shared > 0, shared / np.maximum(whole, np.finfo(np.float64).tiny), 0)
    return overlaps
