"""LVIS average precision (Gupta et al. 2019) and its fixed variant (Dave et al. 2021), in NumPy.

Annotation is federated: a detection of a category that an image was not checked for is neither right nor wrong, and
where a category is not exhaustively annotated an unmatched detection is no error. Fixed AP keeps the 10,000 best
detections of a category over all images; standard AP the 300 best of an image.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Protocol = Literal["fixed", "standard"]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
RECALL_POINTS: Floats = np.linspace(0, 1, 101)
AREAS = {"": (0.0, 1e10), "s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}
AREA_BOUNDS: Floats = np.array(list(AREAS.values()))  # (A, 2)
FREQUENCIES = ("r", "c", "f")
PER_CATEGORY = 10_000
PER_IMAGE = 300


@dataclass(frozen=True, eq=False)
class LvisReport:
    """LVIS's numbers.

    Attributes:
        metrics: AP, AP50, AP75, APs, APm, APl, APr, APc, APf, AR, ARs, ARm and ARl in `[0, 1]`; -1 where undefined.
        per_category: AP of each category id.
    """

    metrics: dict[str, float]
    per_category: dict[int, float]


@dataclass(frozen=True, eq=False)
class _Matches:
    """Detections of one category in one image, best first, and what became of them for each range of areas."""

    scores: Floats  # (D,)
    matched: Bools  # (A, T, D)
    ignored: Bools  # (A, T, D)
    truths: npt.NDArray[np.int64]  # (A,) boxes that count


def score_lvis(
    annotations: Mapping[str, Any],
    predictions: Iterable[Mapping[str, Any]],
    *,
    protocol: Protocol = "fixed",
    per_category: int = PER_CATEGORY,
    per_image: int = PER_IMAGE,
) -> LvisReport:
    """Average precision and recall.

    Args:
        annotations: content of an LVIS v1 file.
        predictions: records `{image_id, boxes, scores, labels}`, boxes xyxy pixels, labels category ids; ties go by
            image id and then by the order given.
        protocol: "fixed" or "standard".
        per_category: most detections of a category (fixed).
        per_image: most detections of an image (standard).
    """
    evaluation = _Evaluation(annotations)
    detections = _collect(predictions)
    if protocol == "fixed":
        detections = _best_of_groups(detections, detections.category, per_category)
    else:
        detections = _best_of_groups(detections, detections.image, per_image)
    known = np.isin(detections.category, evaluation.category_ids)  # what is unknown has used up its place before
    return evaluation.report(_with_area(detections.take(np.flatnonzero(known))))


@dataclass(frozen=True, eq=False)
class _Detections:
    """Columns of equal length."""

    image: npt.NDArray[np.int64]
    category: npt.NDArray[np.int64]
    score: Floats
    box: Floats  # (N, 4) xywh

    def take(self, which: npt.NDArray[Any]) -> "_Detections":
        """Some rows."""
        return _Detections(self.image[which], self.category[which], self.score[which], self.box[which])


def _collect(predictions: Iterable[Mapping[str, Any]]) -> _Detections:
    """All detections, by image id and then as given; boxes xywh, as LVIS's own code compares them."""
    records = sorted(predictions, key=lambda record: int(record["image_id"]))
    counts = [len(record["scores"]) for record in records]
    image = np.repeat([int(record["image_id"]) for record in records], counts).astype(np.int64)
    scores = [np.asarray(record["scores"], np.float64).reshape(-1) for record in records]
    labels = [np.asarray(record["labels"], np.int64).reshape(-1) for record in records]
    boxes = [np.asarray(record["boxes"], np.float64).reshape(-1, 4) for record in records]
    empty = _Detections(image, image, np.zeros(0), np.zeros((0, 4)))
    if not records:
        return empty
    corners = np.concatenate(boxes)
    corners[:, 2:] -= corners[:, :2]
    return _Detections(image, np.concatenate(labels), np.concatenate(scores), corners)


def _best_of_groups(detections: _Detections, keys: npt.NDArray[np.int64], limit: int) -> _Detections:
    """The best so many of each category, or of each image."""
    kept = [rows[np.argsort(-detections.score[rows], kind="stable")[:limit]] for rows in _groups(keys).values()]
    return detections.take(np.sort(np.concatenate(kept))) if kept else detections


def _with_area(detections: _Detections) -> _Detections:
    """Detections that have an area; those without have used up their places before."""
    return detections.take(np.flatnonzero((detections.box[:, 2:] > 0).all(axis=1)))


def _groups(keys: npt.NDArray[np.int64]) -> dict[int, npt.NDArray[np.int64]]:
    """Rows of each key, in order."""
    order = np.argsort(keys, kind="stable")
    values, starts = np.unique(keys[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True)) if len(keys) else {}


class _Evaluation:
    """The truth, arranged for matching."""

    def __init__(self, annotations: Mapping[str, Any]) -> None:
        self.frequency = {category["id"]: category["frequency"] for category in annotations["categories"]}
        self.category_ids = sorted(self.frequency)
        self.truths: dict[tuple[int, int], list[Mapping[str, Any]]] = defaultdict(list)
        for annotation in annotations["annotations"]:
            if annotation["area"] > 0:  # a box without area is none, as for detections
                self.truths[annotation["category_id"], annotation["image_id"]].append(annotation)
        self.absent = {image["id"]: set(image["neg_category_ids"]) for image in annotations["images"]}
        self.partial = {image["id"]: set(image["not_exhaustive_category_ids"]) for image in annotations["images"]}

    def report(self, detections: _Detections) -> LvisReport:
        """All numbers."""
        by_category = _groups(detections.category)
        nothing = np.zeros(0, np.int64)
        truth_images: dict[int, set[int]] = defaultdict(set)
        for category, image in self.truths:
            truth_images[category].add(image)
        precision = {name: np.full((len(self.category_ids), len(THRESHOLDS)), -1.0) for name in AREAS}
        recall = {name: np.full((len(self.category_ids), len(THRESHOLDS)), -1.0) for name in AREAS}
        for row, category in enumerate(self.category_ids):
            mine = detections.take(by_category.get(category, nothing))
            matches = self._matches(category, mine, truth_images[category])
            for index, name in enumerate(AREAS):
                if sum(match.truths[index] for match in matches):
                    precision[name][row], recall[name][row] = _accumulate(matches, index)
        return self._summarize(precision, recall)

    def _matches(self, category: int, detections: _Detections, truth_images: set[int]) -> list[_Matches]:
        """What became of the detections in each image that was checked for the category."""
        rows = _groups(detections.image)
        matches = []
        for image in sorted(truth_images | rows.keys()):
            truths = self.truths.get((category, image), [])
            if not truths and category not in self.absent.get(image, ()):
                continue
            mine = rows.get(image, np.zeros(0, np.int64))
            order = mine[np.argsort(-detections.score[mine], kind="stable")]
            partial = category in self.partial.get(image, ())
            matches.append(_match(detections.box[order], detections.score[order], truths, partial))
        return matches

    def _summarize(self, precision: dict[str, Floats], recall: dict[str, Floats]) -> LvisReport:
        frequencies = np.array([self.frequency[category] for category in self.category_ids])
        metrics = {
            "AP": _mean(precision[""]),
            "AP50": _mean(precision[""][:, :1]),
            "AP75": _mean(precision[""][:, 5:6]),
            **{f"AP{area}": _mean(precision[area]) for area in ("s", "m", "l")},
            **{f"AP{kind}": _mean(precision[""][frequencies == kind]) for kind in FREQUENCIES},
            **{f"AR{area}": _mean(recall[area]) for area in ("", "s", "m", "l")},
        }
        return LvisReport(
            metrics,
            {category: _mean(precision[""][row]) for row, category in enumerate(self.category_ids)},
        )


def _match(boxes: Floats, scores: Floats, truths: list[Mapping[str, Any]], partial: bool) -> _Matches:
    """Give each detection, best first, the free truth that it overlaps most, at every threshold and range of areas.

    Truths outside a range of areas are ignored there: they are tried last, and what they take is ignored, too. Of equal
    overlaps the last truth is taken.
    """
    areas = np.array([truth["area"] for truth in truths], np.float64)
    outside = (areas < AREA_BOUNDS[:, :1]) | (areas > AREA_BOUNDS[:, 1:])  # (A, G)
    matched = np.zeros((len(AREAS), len(THRESHOLDS), len(boxes)), bool)
    ignored = np.zeros_like(matched)
    if len(boxes) and truths:
        true = np.array([truth["bbox"] for truth in truths], np.float64)
        _take_truths(_iou(boxes, true), outside, matched, ignored)
    area = boxes[:, 2:].prod(axis=1)
    unheard = (area < AREA_BOUNDS[:, :1]) | (area > AREA_BOUNDS[:, 1:]) | partial  # (A, D)
    ignored |= ~matched & unheard[:, None]
    return _Matches(scores, matched, ignored, (~outside).sum(axis=1))


def _take_truths(overlaps: Floats, outside: Bools, matched: Bools, ignored: Bools) -> None:
    """Fill in, for all ranges of areas and thresholds at once, which of the `(D, G)` pairs meet."""
    ranks = np.argsort(np.argsort(overlaps, axis=1, kind="stable"), axis=1)  # a later truth outranks an equal one
    preference = (~outside * overlaps.shape[1])[:, None]  # (A, 1, G)
    reached = overlaps[:, None] >= np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]  # (D, T, G)
    free = np.ones((*matched.shape[:2], overlaps.shape[1]), bool)
    rows, columns = np.ogrid[: matched.shape[0], : matched.shape[1]]
    for detection in np.flatnonzero(reached[:, 0].any(axis=1)):
        worth = np.where(free & reached[detection], ranks[detection] + preference, -1)
        best = worth.argmax(axis=2)  # (A, T)
        met = worth[rows, columns, best] >= 0
        matched[:, :, detection] = met
        ignored[:, :, detection] = met & outside[rows, best]
        free[rows, columns, best] &= ~met


def _accumulate(matches: list[_Matches], area: int) -> tuple[Floats, Floats]:
    """Interpolated average precision and final recall at each threshold, of all images together."""
    scores = np.concatenate([match.scores for match in matches])
    order = np.argsort(-scores, kind="stable")
    matched = np.concatenate([match.matched[area] for match in matches], axis=1)[:, order]
    ignored = np.concatenate([match.ignored[area] for match in matches], axis=1)[:, order]
    truths = sum(match.truths[area] for match in matches)
    right = np.cumsum(matched & ~ignored, axis=1).astype(np.float64)
    wrong = np.cumsum(~matched & ~ignored, axis=1).astype(np.float64)
    precision, recall = np.zeros(len(THRESHOLDS)), np.zeros(len(THRESHOLDS))
    for level in range(len(THRESHOLDS)):
        reached = right[level] / truths
        exact = right[level] / np.maximum(right[level] + wrong[level], np.finfo(np.float64).eps)
        envelope = np.maximum.accumulate(exact[::-1])[::-1]
        places = np.searchsorted(reached, RECALL_POINTS, side="left")
        points = np.zeros(len(RECALL_POINTS))
        points[places < len(envelope)] = envelope[places[places < len(envelope)]]
        precision[level] = points.mean()
        recall[level] = reached[-1] if len(reached) else 0.0
    return precision, recall


def _iou(boxes: Floats, truths: Floats) -> Floats:
    """`(N, M)` overlaps of xywh boxes, in the arithmetic of pycocotools: overlaps on a threshold are decided alike."""
    low = np.maximum(boxes[:, None, :2], truths[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (truths[:, :2] + truths[:, 2:])[None])
    intersection = (high - low).clip(min=0).prod(axis=2)
    union = boxes[:, 2:].prod(axis=1)[:, None] + truths[:, 2:].prod(axis=1)[None] - intersection
    overlaps: Floats = intersection / np.maximum(union, np.finfo(np.float64).tiny)
    return overlaps


def _mean(values: Floats) -> float:
    """Mean of what is defined; -1 if nothing is."""
    defined = values[values > -1]
    return float(defined.mean()) if len(defined) else -1.0
