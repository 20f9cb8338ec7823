"""Precision and recall by threshold, calibration error and fitted maps, on numbers that a hand can add up."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from glip.detection.calibration import Calibrator
from glip.errors import ConfigError, DataError
from glip.evaluation.calibration import (
    NUM_BINS,
    THRESHOLDS,
    OperatingPoint,
    calibration_report,
    fit_calibrator,
    score_quality,
)
from glip.evaluation.matching import match_detections

SCORES = [0.9, 0.2, 0.75, 0.92]
IS_RIGHT = [True, False, False, True]  # with 3 true boxes, one is missed


def test_the_thresholds_are_nineteen_twentieths() -> None:
    assert (len(THRESHOLDS), THRESHOLDS[0], THRESHOLDS[5], THRESHOLDS[-1]) == (19, 0.05, 0.3, 0.95)


@pytest.mark.parametrize(
    ("threshold", "precision", "recall"),
    [
        pytest.param(0.05, 2 / 4, 2 / 3, id="all four"),
        pytest.param(0.2, 2 / 4, 2 / 3, id="a score equal to the threshold counts"),
        pytest.param(0.25, 2 / 3, 2 / 3, id="without the lowest"),
        pytest.param(0.75, 2 / 3, 2 / 3, id="the third one's own score"),
        pytest.param(0.8, 1.0, 2 / 3, id="the two right ones"),
        pytest.param(0.95, None, 0.0, id="none: no precision, a recall of 0"),
    ],
)
def test_at_a_threshold(threshold: float, precision: float | None, recall: float) -> None:
    point = score_quality(SCORES, IS_RIGHT, truths=3).points[THRESHOLDS.index(threshold)]
    assert point == OperatingPoint(threshold, precision, recall)


@pytest.mark.parametrize(
    ("precision", "recall", "f1"),
    [
        pytest.param(0.5, 1.0, 2 / 3, id="a half and one"),
        pytest.param(0.0, 0.0, 0.0, id="nothing right"),
        pytest.param(None, 0.0, None, id="no detection"),
        pytest.param(0.0, None, None, id="no true box"),
    ],
)
def test_f1_of(precision: float | None, recall: float | None, f1: float | None) -> None:
    assert OperatingPoint(0.5, precision, recall).f1 == f1


@pytest.mark.parametrize(
    ("scores", "is_right", "truths", "best"),
    [
        pytest.param(SCORES, IS_RIGHT, 3, OperatingPoint(0.9, 1.0, 2 / 3), id="both right ones and no wrong one"),
        pytest.param(  # F1 2/3, 2/4, 4/5
            [0.9, 0.8, 0.7], [True, False, True], 2, OperatingPoint(0.7, 2 / 3, 1.0), id="a wrong one on the way"
        ),
        pytest.param(  # F1 2/2, 2/3, 4/4
            [0.9, 0.8, 0.7], [True, False, True], 1, OperatingPoint(0.9, 1.0, 1.0), id="of equal ones the highest"
        ),
        pytest.param(  # cutting between equal scores would give an F1 of 1
            [0.5, 0.5], [True, False], 1, OperatingPoint(0.5, 0.5, 1.0), id="equal scores stay together"
        ),
        pytest.param([0.9], [False], 1, None, id="nowhere, if nothing is right"),
        pytest.param([0.9], [False], 0, None, id="nowhere, without a true box"),
        pytest.param([], [], 2, None, id="nowhere, without a detection"),
    ],
)
def test_f1_is_best(scores: list[float], is_right: list[bool], truths: int, best: OperatingPoint | None) -> None:
    assert score_quality(scores, is_right, truths=truths).best == best


def test_bins_and_calibration_error_by_hand() -> None:
    """0.9 and 0.92 share bin 13 of [13/15, 14/15): mean 0.91, all right; 0.75 is alone in bin 11, 0.2 in bin 3."""
    quality = score_quality(SCORES, IS_RIGHT, truths=3)
    assert [one.count for one in quality.bins] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0]
    assert (quality.bins[13].low, quality.bins[13].high) == (13 / 15, 14 / 15)
    assert quality.bins[13].mean_score == pytest.approx(0.91)
    assert quality.bins[13].precision == 1.0
    assert (quality.bins[11].mean_score, quality.bins[11].precision) == (0.75, 0.0)
    assert (quality.bins[0].mean_score, quality.bins[0].precision) == (None, None)
    assert quality.calibration_error == pytest.approx((2 * 0.09 + 1 * 0.75 + 1 * 0.2) / 4)


@pytest.mark.parametrize(
    ("score", "place"),
    [
        pytest.param(0.0, 0, id="0 is in the first"),
        pytest.param(0.2, 3, id="an edge is in the bin that it begins"),
        pytest.param(1.0, 14, id="1 is in the last"),
    ],
)
def test_bin_of(score: float, place: int) -> None:
    bins = score_quality([score], [True], truths=1).bins
    assert [one.count for one in bins].index(1) == place


def test_scores_that_say_the_truth_have_no_error() -> None:
    assert score_quality([0.25] * 4, [True, False, False, False], truths=1).calibration_error == 0.0


def test_no_detection_and_no_true_box() -> None:
    quality = score_quality([], [], truths=0)
    assert (quality.truths, quality.detections, quality.calibration_error, quality.best) == (0, 0, None, None)
    assert set(quality.points) == {OperatingPoint(threshold, None, None) for threshold in THRESHOLDS}
    assert [one.count for one in quality.bins] == [0] * NUM_BINS


BOX = [0.0, 0.0, 10.0, 10.0]


def annotated() -> dict[str, Any]:
    """Two cats, a dog in a crowd and no owl."""
    return {
        "images": [{"id": 1}, {"id": 2}],
        "categories": [{"id": 4, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 9, "name": "owl"}],
        "annotations": [
            {"image_id": 1, "category_id": 4, "bbox": BOX, "iscrowd": 0},
            {"image_id": 2, "category_id": 4, "bbox": BOX, "iscrowd": 0},
            {"image_id": 2, "category_id": 2, "bbox": BOX, "iscrowd": 1},
        ],
    }


def result(image_id: int, category_id: int, score: float) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": BOX, "score": score}


def test_a_report_of_three_classes_in_json() -> None:
    """A cat is found and one missed; an owl is seen in its place; the dog's crowd does not count."""
    results = [result(1, 4, 0.8), result(2, 9, 0.6), result(2, 2, 0.9)]
    report = json.loads(json.dumps(calibration_report(match_detections(annotated(), results)).to_dict()))
    assert list(report) == ["all", "classes"]
    assert list(report["classes"]) == ["cat", "dog", "owl"]
    parts = [report["all"], *report["classes"].values()]
    _, cat, dog, owl = parts
    assert [(one["truths"], one["detections"]) for one in parts] == [(2, 2), (2, 1), (0, 0), (0, 1)]
    middle = THRESHOLDS.index(0.5)
    assert report["all"]["thresholds"][middle] == 0.5
    assert [one["precision"][middle] for one in parts] == [0.5, 1.0, None, 0.0]
    assert [one["recall"][middle] for one in parts] == [0.5, 0.5, None, None]
    assert [one["calibration_error"] for one in parts] == pytest.approx([0.4, 0.2, None, 0.6])
    assert cat["best"] == {"threshold": 0.8, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)}
    assert [dog["best"], owl["best"]] == [None, None]
    assert cat["bins"][12] == {"low": 12 / 15, "high": 13 / 15, "count": 1, "mean_score": 0.8, "precision": 1.0}


def test_a_report_without_any_class() -> None:
    report = calibration_report(match_detections({"images": [], "categories": [], "annotations": []}, []))
    assert report.by_class == {}
    assert report.overall.detections == 0


@pytest.mark.parametrize(
    ("scores", "is_right", "message"),
    [
        pytest.param([0.5, 1.5], [True, True], r"in \[0, 1\], got 1.5", id="a score above 1"),
        pytest.param([-0.5], [True], r"in \[0, 1\], got -0.5", id="a logit"),
        pytest.param([math.nan], [True], r"in \[0, 1\], got nan", id="NaN"),
        pytest.param([0.5, 0.6], [True], r"both be \(N,\), got \(2,\) and \(1,\)", id="one outcome for two scores"),
        pytest.param([[0.5]], [[True]], r"both be \(N,\), got \(1, 1\) and \(1, 1\)", id="a table"),
    ],
)
def test_is_refused(scores: Any, is_right: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        score_quality(scores, is_right, truths=1)
    with pytest.raises(DataError, match=message):
        fit_calibrator(scores, is_right)


def outcomes(*groups: tuple[float, int, int]) -> tuple[list[float], list[bool]]:
    """Scores and outcomes of groups of `(score, right, wrong)`."""
    scores = [score for score, right, wrong in groups for _ in range(right + wrong)]
    return scores, [index < right for _, right, wrong in groups for index in range(right + wrong)]


@pytest.mark.parametrize(
    ("groups", "knots", "probabilities"),
    [
        pytest.param([(0.2, 1, 3), (0.6, 1, 1), (0.9, 3, 1)], (0.2, 0.6, 0.9), (0.25, 0.5, 0.75), id="rising shares"),
        pytest.param(
            [(0.2, 0, 2), (0.5, 3, 1), (0.8, 1, 1), (0.9, 2, 0)],
            (0.2, 0.5, 0.8, 0.9),
            (0.0, 4 / 6, 4 / 6, 1.0),
            id="a fall is averaged by count, both its ends are knots",
        ),
        pytest.param(
            [(0.1, 1, 1), (0.3, 1, 1), (0.4, 1, 1), (0.7, 1, 1)],
            (0.1, 0.7),
            (0.5, 0.5),
            id="the inside of a level stretch is dropped",
        ),
        pytest.param([(0.5, 1, 2)], (0.5,), (1 / 3,), id="one score for all"),
        pytest.param([(0.3, 2, 0), (0.5, 1, 0), (0.8, 1, 0)], (0.3, 0.8), (1.0, 1.0), id="only right ones"),
        pytest.param([(0.3, 0, 1), (0.8, 0, 1)], (0.3, 0.8), (0.0, 0.0), id="only wrong ones"),
    ],
)
def test_isotonic_of(
    groups: list[tuple[float, int, int]], knots: tuple[float, ...], probabilities: tuple[float, ...]
) -> None:
    calibrator = fit_calibrator(*outcomes(*groups))
    assert calibrator.kind == "isotonic"
    assert calibrator.scores == knots
    assert calibrator.probabilities == pytest.approx(probabilities)


def test_the_order_of_detections_does_not_matter() -> None:
    scores, is_right = outcomes((0.2, 0, 2), (0.5, 3, 1), (0.8, 1, 1))
    assert fit_calibrator(scores[::-1], is_right[::-1]) == fit_calibrator(scores, is_right)


@pytest.mark.parametrize(
    ("groups", "temperature"),
    [
        pytest.param([(0.9, 3, 1)], 2.0, id="odds of 9 that are 3 in truth"),
        pytest.param([(0.75, 9, 1)], 0.5, id="odds of 3 that are 9 in truth"),
        pytest.param([(0.9, 9, 1), (0.25, 1, 3)], 1.0, id="scores that say the truth"),
        pytest.param([(0.9, 1, 1)], 100.0, id="scores that say nothing: the hottest"),
        pytest.param([(0.9, 5, 0), (0.1, 0, 5)], 0.01, id="scores that could be bolder: the coldest"),
    ],
)
def test_temperature_of(groups: list[tuple[float, int, int]], temperature: float) -> None:
    calibrator = fit_calibrator(*outcomes(*groups), kind="temperature")
    assert calibrator.kind == "temperature"
    assert calibrator.temperature == pytest.approx(temperature, rel=1e-4)


def test_scores_of_0_and_1_have_a_temperature() -> None:
    calibrator = fit_calibrator([0.0, 1.0, 1.0], [False, True, False], kind="temperature")
    assert calibrator(torch.tensor([1.0])).item() == pytest.approx(2 / 3, abs=1e-3)


@pytest.mark.parametrize("kind", ["isotonic", "temperature"])
def test_a_fitted_map_lowers_the_calibration_error(kind: Any) -> None:
    """Detections are right as often as the square root of the odds says."""
    random = np.random.default_rng(0)
    scores = random.random(4000)
    is_right = random.random(4000) < 1 / (1 + np.sqrt((1 - scores) / scores))
    calibrator = fit_calibrator(scores, is_right, kind=kind)
    before = score_quality(scores, is_right, truths=4000).calibration_error
    after = score_quality(calibrator(torch.from_numpy(scores)).numpy(), is_right, truths=4000).calibration_error
    assert before is not None
    assert after is not None
    assert before > 0.08
    assert after < 0.03


def test_isotonic_knots_are_few() -> None:
    random = np.random.default_rng(0)
    scores = random.random(4000)
    calibrator = fit_calibrator(scores, random.random(4000) < scores)
    assert calibrator.scores is not None
    assert len(calibrator.scores) < 150


@pytest.mark.parametrize("kind", ["isotonic", "temperature"])
def test_nothing_to_fit_is_refused(kind: Any) -> None:
    with pytest.raises(DataError, match="fitted to detections, but there are none"):
        fit_calibrator([], [], kind=kind)


@pytest.mark.parametrize(("is_right", "word"), [(True, "right"), (False, "wrong")])
def test_a_temperature_needs_both_outcomes(is_right: bool, word: str) -> None:
    with pytest.raises(DataError, match=rf"all 2 are {word}; give more detections, or fit kind 'isotonic'"):
        fit_calibrator([0.5, 0.6], [is_right, is_right], kind="temperature")


def test_another_kind_is_refused() -> None:
    kind: Any = "platt"
    with pytest.raises(ConfigError, match="kind must be 'isotonic' or 'temperature', got 'platt'"):
        fit_calibrator([0.5], [True], kind=kind)


def test_tensors_can_be_fitted() -> None:
    fitted = fit_calibrator(torch.tensor([0.25, 0.5]).numpy(), torch.tensor([False, True]).numpy())
    assert fitted == Calibrator("isotonic", scores=(0.25, 0.5), probabilities=(0.0, 1.0))
