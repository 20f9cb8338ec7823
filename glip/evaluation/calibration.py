"""What a score is worth: precision and recall by threshold, and how far scores are from the share that is right.

The expected calibration error is that of Guo et al. 2017, equation 3, for detections: a detection is right if it took a
true box.
"""

from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression, minimize_scalar

from glip.detection.calibration import SCORE_MARGIN, Calibrator, CalibratorKind
from glip.errors import ConfigError, DataError
from glip.evaluation.matching import Bools, Floats, Matching

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""0.05, 0.10, ... 0.95."""
NUM_BINS = 15  # as Guo et al. 2017
MAX_TEMPERATURE = 100.0  # where scores contradict the truth, no temperature is hot enough


@dataclass(frozen=True)
class OperatingPoint:
    """What detections of at least some score are worth.

    Attributes:
        threshold: least score.
        precision: share of them that is right, in `[0, 1]`; None if there is none.
        recall: share of true boxes that they found, in `[0, 1]`; None if there is none.
    """

    threshold: float
    precision: float | None
    recall: float | None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None unless both are known."""
        if self.precision is None or self.recall is None:
            return None
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True)
class Bin:
    """Detections of about one score.

    Attributes:
        low: least score.
        high: the scores end before it; the last bin holds 1, too.
        count: how many.
        mean_score: None if there is none.
        precision: share that is right, in `[0, 1]`; None if there is none.
    """

    low: float
    high: float
    count: int
    mean_score: float | None
    precision: float | None


@dataclass(frozen=True)
class ScoreQuality:
    """What the scores of one class, or of all, are worth.

    Attributes:
        truths: number of true boxes.
        detections: number of detections.
        points: at each of `THRESHOLDS`.
        bins: `NUM_BINS` of equal width.
        calibration_error: mean of |mean score - precision| over bins, weighted by count; None without detections.
        best: where F1 is highest, among all scores that occur, of equal ones the highest; None if nothing is right.
    """

    truths: int
    detections: int
    points: tuple[OperatingPoint, ...]
    bins: tuple[Bin, ...]
    calibration_error: float | None
    best: OperatingPoint | None

    def to_dict(self) -> dict[str, Any]:
        """All numbers, ready for JSON; None becomes null."""
        return {
            "truths": self.truths,
            "detections": self.detections,
            "calibration_error": self.calibration_error,
            "best": None if self.best is None else asdict(self.best) | {"f1": self.best.f1},
            "thresholds": [point.threshold for point in self.points],
            "precision": [point.precision for point in self.points],
            "recall": [point.recall for point in self.points],
            "bins": [asdict(one) for one in self.bins],
        }


@dataclass(frozen=True)
class CalibrationReport:
    """What scores are worth, for all classes together and for each.

    Attributes:
        overall: all detections and true boxes, whatever their class.
        by_class: by the class's name, in the annotation file's order.
    """

    overall: ScoreQuality
    by_class: dict[str, ScoreQuality]

    def to_dict(self) -> dict[str, Any]:
        """All numbers by "all" and "classes", ready for JSON."""
        return {
            "all": self.overall.to_dict(),
            "classes": {name: quality.to_dict() for name, quality in self.by_class.items()},
        }


def calibration_report(matching: Matching) -> CalibrationReport:
    """Measure the scores of matched detections.

    Args:
        matching: of all detections, however low their scores: what `match_detections` gives at a threshold of 0.

    Raises:
        DataError: a score is outside `[0, 1]`.
    """
    is_right = matching.is_right
    by_class: dict[str, ScoreQuality] = {}
    for category, name in matching.names.items():
        mine = matching.detections.category_ids == category
        truths = int((matching.truths.category_ids == category).sum())
        by_class[name] = score_quality(matching.scores[mine], is_right[mine], truths=truths)
    return CalibrationReport(score_quality(matching.scores, is_right, truths=len(matching.truths)), by_class)


def score_quality(scores: npt.ArrayLike, is_right: npt.ArrayLike, *, truths: int) -> ScoreQuality:
    """Measure the scores of detections.

    Args:
        scores: `(N,)` in `[0, 1]`, in any order.
        is_right: `(N,)` bool, True for detections that took a true box.
        truths: number of true boxes, taken or not.

    Raises:
        DataError: the arrays do not fit each other, or a score is outside `[0, 1]`.
    """
    scores, is_right = _checked(scores, is_right)
    order = np.argsort(-scores, kind="stable")
    descending, right = scores[order], is_right[order].cumsum()  # right among the first 1, 2, ...
    bins, error = _calibration(scores, is_right)
    return ScoreQuality(
        truths=truths,
        detections=len(scores),
        points=tuple(_point(descending, right, threshold, truths) for threshold in THRESHOLDS),
        bins=bins,
        calibration_error=error,
        best=_best_point(descending, right, truths),
    )


def fit_calibrator(scores: npt.ArrayLike, is_right: npt.ArrayLike, *, kind: CalibratorKind = "isotonic") -> Calibrator:
    """Fit a map from scores to the share that is right.

    "isotonic" is the non-decreasing map of least squared error; it needs some hundred detections and follows any shape.
    "temperature" is one number, of least log loss; few detections are enough.

    Args:
        scores: `(N,)` in `[0, 1]`, in any order.
        is_right: `(N,)` bool.
        kind: "isotonic" or "temperature".

    Raises:
        ConfigError: another kind.
        DataError: there are no detections, or only right or only wrong ones for "temperature"; the arrays do not fit
            each other, or a score is outside `[0, 1]`.
    """
    if kind not in get_args(CalibratorKind):
        raise ConfigError(f"kind must be {' or '.join(map(repr, get_args(CalibratorKind)))}, got {kind!r}")
    scores, is_right = _checked(scores, is_right)
    if not len(scores):
        raise DataError("a calibrator is fitted to detections, but there are none; give some, at a lower threshold")
    if kind == "isotonic":
        return _fit_isotonic(scores, is_right)
    if is_right.all() or not is_right.any():
        outcome = "right" if is_right[0] else "wrong"
        raise DataError(
            f"a temperature is fitted to right and wrong detections, but all {len(scores)} are {outcome}; "
            "give more detections, or fit kind 'isotonic'"
        )
    return _fit_temperature(scores, is_right)


def _checked(scores: npt.ArrayLike, is_right: npt.ArrayLike) -> tuple[Floats, Bools]:
    scores, is_right = np.asarray(scores, np.float64), np.asarray(is_right, np.bool_)
    if scores.ndim != 1 or scores.shape != is_right.shape:
        raise DataError(f"scores and is_right must both be (N,), got {scores.shape} and {is_right.shape}")
    outside = scores[~((scores >= 0) & (scores <= 1))]  # NaN, too
    if len(outside):
        raise DataError(f"scores must be in [0, 1], got {outside[0]:g}; logits need a sigmoid first")
    return scores, is_right


def _point(descending: Floats, right: npt.NDArray[np.int64], threshold: float, truths: int) -> OperatingPoint:
    """Where detections of at least a score stand; `descending` scores `(N,)`, `right` among the first 1, 2, ... N."""
    count = int(np.searchsorted(-descending, -threshold, side="right"))
    hits = int(right[count - 1]) if count else 0
    return OperatingPoint(threshold, hits / count if count else None, hits / truths if truths else None)


def _best_point(descending: Floats, right: npt.NDArray[np.int64], truths: int) -> OperatingPoint | None:
    if not truths or not len(right) or not right[-1]:
        return None
    ends = np.append(np.flatnonzero(np.diff(descending)), len(descending) - 1)  # last detection of each score
    f1 = 2 * right[ends] / (ends + 1 + truths)
    return _point(descending, right, float(descending[ends[f1.argmax()]]), truths)


def _calibration(scores: Floats, is_right: Bools) -> tuple[tuple[Bin, ...], float | None]:
    """Bins of equal width, and the expected calibration error."""
    place = np.minimum((scores * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    counts = np.bincount(place, minlength=NUM_BINS)
    score_sums = np.bincount(place, weights=scores, minlength=NUM_BINS)
    right_sums = np.bincount(place, weights=is_right, minlength=NUM_BINS)
    bins = tuple(
        Bin(
            low=index / NUM_BINS,
            high=(index + 1) / NUM_BINS,
            count=count,
            mean_score=score_sum / count if count else None,
            precision=right_sum / count if count else None,
        )
        for index, (count, score_sum, right_sum) in enumerate(
            zip(counts.tolist(), score_sums.tolist(), right_sums.tolist(), strict=True)
        )
    )
    error = float(np.abs(score_sums - right_sums).sum()) / len(scores) if len(scores) else None
    return bins, error


def _fit_isotonic(scores: Floats, is_right: Bools) -> Calibrator:
    """Pool adjacent violators, with one point for each score; of a level stretch only both ends are kept as knots."""
    knots, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    shares = np.bincount(place, weights=is_right) / counts
    levels = isotonic_regression(shares, weights=counts).x
    is_inside = np.zeros(len(knots), np.bool_)
    is_inside[1:-1] = (levels[1:-1] == levels[:-2]) & (levels[1:-1] == levels[2:])
    return Calibrator("isotonic", tuple(knots[~is_inside].tolist()), tuple(levels[~is_inside].tolist()))


def _fit_temperature(scores: Floats, is_right: Bools) -> Calibrator:
    clipped = scores.clip(SCORE_MARGIN, 1 - SCORE_MARGIN)
    margins = np.where(is_right, 1, -1) * (np.log(clipped) - np.log1p(-clipped))

    def log_loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -margins / np.exp(log_temperature)).mean())

    limit = np.log(MAX_TEMPERATURE)
    found = minimize_scalar(log_loss, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-8})
    return Calibrator("temperature", temperature=float(np.exp(found.x)))
