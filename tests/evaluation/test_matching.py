"""Best score first, a detection takes the free true box of its class that it overlaps most; the others get a kind."""

import contextlib
import copy
import io
import math
from typing import Any

import numpy as np
import pytest

from glip.errors import ConfigError, DataError
from glip.evaluation.matching import Matching, match_detections

CAT, DOG = 3, 7
SQUARE = [0.0, 0.0, 10.0, 10.0]  # xywh, as all boxes here
HALF = [0.0, 0.0, 10.0, 5.0]  # IoU 0.5 with the square
LESS = [0.0, 0.0, 10.0, 4.9]
TENTH = [0.0, 0.0, 10.0, 1.0]
TRACE = [0.0, 0.0, 10.0, 0.9]
ELSEWHERE = [50.0, 50.0, 10.0, 10.0]


def truth(bbox: list[float], category_id: int = CAT, image_id: int = 1, *, iscrowd: int = 0) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "iscrowd": iscrowd}


def result(bbox: list[float], category_id: int = CAT, score: float = 0.5, image_id: int = 1) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


def annotated(*truths: dict[str, Any]) -> dict[str, Any]:
    """Two images with these true boxes of cats and dogs."""
    return {
        "images": [{"id": 1}, {"id": 2}],
        "categories": [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}],
        "annotations": list(truths),
    }


def kinds(matching: Matching) -> list[str]:
    return [str(kind) for kind in matching.kinds]


@pytest.mark.parametrize(
    ("bbox", "category_id", "kind"),
    [
        pytest.param(SQUARE, CAT, "right", id="the box itself is right"),
        pytest.param(HALF, CAT, "right", id="an IoU of just 0.5 is right"),
        pytest.param(LESS, CAT, "bad box", id="an IoU of 0.49 is a bad box"),
        pytest.param(TENTH, CAT, "bad box", id="an IoU of just 0.1 is a bad box"),
        pytest.param(TRACE, CAT, "background", id="an IoU of 0.09 is background"),
        pytest.param(ELSEWHERE, CAT, "background", id="a box elsewhere is background"),
        pytest.param(HALF, DOG, "wrong word", id="the box under another name is a wrong word"),
        pytest.param(LESS, DOG, "background", id="a bad box under another name is background"),
        pytest.param([0.0, 0.0, 0.0, 10.0], CAT, "background", id="a box without width is background"),
        pytest.param([10.0, 10.0, -10.0, -10.0], CAT, "background", id="a box of negative sides is background"),
    ],
)
def test_with_one_cat_in_the_image(bbox: list[float], category_id: int, kind: str) -> None:
    matching = match_detections(annotated(truth(SQUARE)), [result(bbox, category_id)])
    assert kinds(matching) == [kind]
    assert len(matching.missed) == (kind != "right")
    assert matching.met.tolist() == [-1 if kind == "background" else 0]


@pytest.mark.parametrize(
    ("truths", "results", "expected"),
    [
        pytest.param(
            [truth(SQUARE)],
            [result(SQUARE, score=0.6), result(HALF, score=0.9)],
            ["right", "duplicate"],
            id="the better score takes the box, though it overlaps less",
        ),
        pytest.param(
            [truth(SQUARE)],
            [result(SQUARE), result(HALF)],
            ["right", "duplicate"],
            id="of equal scores the first one takes it",
        ),
        pytest.param(
            [truth(SQUARE), truth([0.0, 0.0, 10.0, 8.0])],
            [result(SQUARE, score=0.9), result(SQUARE, score=0.8), result(SQUARE, score=0.7)],
            ["right", "right", "duplicate"],
            id="the second best of two true boxes is taken when the best is gone",
        ),
        pytest.param(
            [truth(SQUARE), truth(SQUARE, DOG)],
            [result(SQUARE, CAT, 0.9), result(SQUARE, DOG, 0.8)],
            ["right", "right"],
            id="two classes do not compete",
        ),
        pytest.param(
            [truth(SQUARE), truth(SQUARE, DOG)],
            [result(SQUARE, CAT, 0.9), result(SQUARE, CAT, 0.8)],
            ["right", "duplicate"],
            id="a duplicate is no wrong word",
        ),
        pytest.param(
            [truth(SQUARE), truth([0.0, 0.0, 10.0, 4.0], DOG)],
            [result([0.0, 0.0, 10.0, 4.5], CAT)],
            ["wrong word"],
            id="a wrong word is no bad box",
        ),
        pytest.param(
            [truth(SQUARE, image_id=2)],
            [result(SQUARE, image_id=1), result(SQUARE, image_id=2)],
            ["background", "right"],
            id="two images do not compete",
        ),
    ],
)
def test_of_several(truths: list[dict[str, Any]], results: list[dict[str, Any]], expected: list[str]) -> None:
    assert kinds(match_detections(annotated(*truths), results)) == expected


CROWD = [100.0, 0.0, 100.0, 100.0]
IN_CROWD = [95.0, 0.0, 10.0, 10.0]  # half of it
BESIDE_CROWD = [94.0, 0.0, 10.0, 10.0]  # 0.4 of it


@pytest.mark.parametrize(
    ("truths", "found", "expected"),
    [
        pytest.param([], result(IN_CROWD), [], id="half in the crowd is left out"),
        pytest.param([], result(BESIDE_CROWD), ["background"], id="less than half is not"),
        pytest.param([], result(IN_CROWD, DOG), ["background"], id="a crowd of another class does not matter"),
        pytest.param([], result(IN_CROWD, image_id=2), ["background"], id="nor does one in another image"),
        pytest.param([truth(IN_CROWD)], result(IN_CROWD), ["right"], id="a true box in the crowd can be found"),
        pytest.param([truth(IN_CROWD, DOG)], result(IN_CROWD), [], id="a wrong word in the crowd is left out"),
    ],
)
def test_a_detection_in_a_crowd_of_cats(
    truths: list[dict[str, Any]], found: dict[str, Any], expected: list[str]
) -> None:
    matching = match_detections(annotated(truth(CROWD, iscrowd=1), *truths), [found])
    assert kinds(matching) == expected
    assert len(matching.truths) == len(truths)  # the crowd itself cannot be missed


def test_every_field_by_hand() -> None:
    """The dog of image 2 is missed; what is known of a detection stays together when they are sorted."""
    annotations = annotated(truth(ELSEWHERE, DOG, 2), truth(SQUARE, CAT, 1), truth(SQUARE, CAT, 2))
    results = [
        result(TRACE, DOG, 0.4, 2),
        result(HALF, CAT, 0.3, 2),
        result(SQUARE, CAT, 0.2),
        result(HALF, DOG, 0.9),
        result(LESS, CAT, 0.6, 2),
    ]
    matching = match_detections(annotations, results)
    assert len(matching) == 5
    assert matching.detections.image_ids.tolist() == [1, 1, 2, 2, 2]
    assert matching.detections.category_ids.tolist() == [DOG, CAT, CAT, DOG, CAT]
    assert matching.detections.boxes_xywh.tolist() == [HALF, SQUARE, LESS, TRACE, HALF]
    assert matching.scores.tolist() == [0.9, 0.2, 0.6, 0.4, 0.3]
    assert kinds(matching) == ["wrong word", "right", "bad box", "background", "right"]
    assert matching.is_right.tolist() == [False, True, False, False, True]
    assert matching.truths.image_ids.tolist() == [1, 2, 2]
    assert matching.met.tolist() == [0, 0, 2, -1, 2]
    assert matching.names == {CAT: "cat", DOG: "dog"}
    missed = matching.missed
    assert (missed.image_ids.tolist(), missed.category_ids.tolist()) == ([2], [DOG])
    assert missed.boxes_xywh.tolist() == [ELSEWHERE]


def test_of_equally_near_true_boxes_the_last_is_taken() -> None:
    assert match_detections(annotated(truth(SQUARE), truth(SQUARE)), [result(SQUARE)]).met.tolist() == [1]


def test_detections_below_the_threshold_are_left_out() -> None:
    results = [result(SQUARE, score=0.3), result(ELSEWHERE, score=0.2), result(HALF, score=0.1)]
    matching = match_detections(annotated(truth(SQUARE)), results, threshold=0.2)
    assert kinds(matching) == ["right", "background"]
    assert len(match_detections(annotated(truth(SQUARE)), results, threshold=0.31).missed) == 1


def test_another_iou_may_be_asked_for() -> None:
    assert kinds(match_detections(annotated(truth(SQUARE)), [result(LESS)], iou=0.49)) == ["right"]
    assert kinds(match_detections(annotated(truth(SQUARE)), [result(HALF)], iou=0.75)) == ["bad box"]
    rounded = [6.4, 2.8, 0.5, 0.3]  # an IoU with itself of 1 - 1e-15
    assert kinds(match_detections(annotated(truth(rounded)), [result(rounded)], iou=1.0)) == ["right"]


@pytest.mark.parametrize("iou", [0.0, -0.5, 1.1, math.nan])
def test_an_iou_out_of_range_is_refused(iou: float) -> None:
    with pytest.raises(ConfigError, match=r"iou must be above 0 and at most 1, got"):
        match_detections(annotated(), [], iou=iou)


@pytest.mark.parametrize(
    ("truths", "results", "counts"),
    [
        pytest.param([], [], (0, 0), id="nothing at all"),
        pytest.param([truth(SQUARE), truth(CROWD, iscrowd=1)], [], (0, 1), id="no detection"),
        pytest.param([], [result(SQUARE)], (1, 0), id="no true box"),
    ],
)
def test_empty_input(truths: list[dict[str, Any]], results: list[dict[str, Any]], counts: tuple[int, int]) -> None:
    matching = match_detections(annotated(*truths), results)
    assert (len(matching), len(matching.missed)) == counts
    assert matching.detections.boxes_xywh.shape == (counts[0], 4)
    assert kinds(matching) == ["background"] * counts[0]


def test_a_truth_without_iscrowd_counts() -> None:
    plain = truth(SQUARE)
    del plain["iscrowd"]
    assert kinds(match_detections(annotated(plain), [result(SQUARE)])) == ["right"]


def test_names_that_two_categories_share_are_told_apart() -> None:
    categories = [{"id": 1, "name": "mouse"}, {"id": 2, "name": "cat"}, {"id": 9, "name": "mouse"}]
    matching = match_detections({"images": [], "categories": categories, "annotations": []}, [])
    assert matching.names == {1: "mouse (1)", 2: "cat", 9: "mouse (9)"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"image_id": 5}, r"\[1\]: image 5 is not among the images", id="unknown image"),
        pytest.param({"category_id": 4}, r"\[1\]: category 4 is not among the categories", id="unknown category"),
        pytest.param({"bbox": [1, 2, 3]}, r"\[1\]: bbox must be four numbers .*, got \[1, 2, 3\]", id="three numbers"),
        pytest.param({"bbox": [1, 2, 3, math.nan]}, r"\[1\]: bbox must be four numbers", id="not a number"),
        pytest.param({"bbox": None}, r"\[1\]: bbox must be four numbers .*, got None", id="no box"),
        pytest.param({"bbox": ["1", "2", "3", "4"]}, r"\[1\]: bbox must be four numbers", id="words"),
    ],
)
def test_a_record_is_refused_by_its_place_for(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match="^results" + message):
        match_detections(annotated(), [result(SQUARE), result(SQUARE) | change])
    with pytest.raises(DataError, match="^annotations" + message):
        match_detections(annotated(truth(SQUARE), truth(SQUARE) | change), [])


@pytest.mark.parametrize("score", [math.nan, math.inf, None, "0.5"])
def test_a_score_that_is_no_number_is_refused(score: Any) -> None:
    with pytest.raises(DataError, match=rf"^results\[0\]: score must be a number, got {score!r}"):
        match_detections(annotated(), [result(SQUARE, score=score)])


def test_a_record_that_lacks_a_field_is_refused() -> None:
    record = result(SQUARE)
    del record["score"]
    with pytest.raises(DataError, match=r"^results\[0\]: needs bbox, category_id, image_id, score, but has no score"):
        match_detections(annotated(), [record])


def test_inputs_stay_as_they_were() -> None:
    annotations, results = annotated(truth(SQUARE)), [result(HALF, score=0.1), result(SQUARE)]
    before = copy.deepcopy((annotations, results))
    match_detections(annotations, results)
    assert (annotations, results) == before


def scattered(random: np.random.Generator, count: int) -> list[list[float]]:
    """Boxes on a grid coarse enough that overlaps are often equal."""
    corners, sides = random.integers(0, 8, (count, 2)), random.integers(2, 8, (count, 2))
    return [[float(x), float(y), float(w), float(h)] for (x, y), (w, h) in zip(corners, sides, strict=True)]


def test_many_detections_in_one_image_are_matched_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    truths = annotated(*(truth(bbox) for bbox in scattered(random, 20)))
    results = [result(bbox, score=float(random.random())) for bbox in scattered(random, 100)]
    whole = match_detections(truths, results)
    monkeypatch.setattr("glip.evaluation.matching.BLOCK", 7)
    in_blocks = match_detections(truths, results)
    assert kinds(in_blocks) == kinds(whole)
    assert in_blocks.met.tolist() == whole.met.tolist()
    assert set(kinds(whole)) == {"right", "duplicate", "bad box"}


def test_right_and_wrong_are_those_of_pycocotools() -> None:
    """Parity: 300 detections of 60 boxes, a third of them crowds, in two images and two classes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    random = np.random.default_rng(1)
    truths = [
        truth(bbox, int(random.choice([CAT, DOG])), int(random.integers(1, 3)), iscrowd=int(random.random() < 1 / 3))
        | {"id": number, "area": bbox[2] * bbox[3]}
        for number, bbox in enumerate(scattered(random, 60), start=1)
    ]
    results = [
        result(bbox, int(random.choice([CAT, DOG])), round(float(random.random()), 2), int(random.integers(1, 3)))
        for bbox in scattered(random, 300)
    ]
    matching = match_detections(annotated(*truths), results)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(annotated(*truths))
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), "bbox")
        evaluation.params.areaRng, evaluation.params.maxDets = [[0, 1e10]], [300]
        evaluation.evaluate()
    for group in evaluation.evalImgs:
        mine = matching.detections.image_ids == group["image_id"]
        mine &= matching.detections.category_ids == group["category_id"]
        counts = ~group["dtIgnore"][0]  # at an IoU of 0.5
        assert matching.is_right[mine].tolist() == (group["dtMatches"][0] > 0)[counts].tolist()
        assert matching.scores[mine].tolist() == np.array(group["dtScores"])[counts].tolist()
    assert 0 < matching.is_right.sum() < len(matching) < 300
