"""COCO's twelve numbers, by hand: precision at 101 recalls, for IoU thresholds 0.50, 0.55, ... 0.95."""

import copy
from typing import Any

import pytest
import torch

from glip.errors import DataError
from glip.evaluation.coco import METRICS, coco_metrics, coco_results
from glip.structures.detections import Detections

LEFT, RIGHT = [0, 0, 100, 100], [200, 0, 100, 100]  # xywh; an area of 10,000 is "large"


def truth(*boxes: list[int], categories: int = 1) -> dict[str, Any]:
    """One image of 400 x 400 pixels with boxes of category 1."""
    return {
        "images": [{"id": 1, "width": 400, "height": 400}],
        "categories": [{"id": number + 1, "name": f"class {number}"} for number in range(categories)],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for number, box in enumerate(boxes, start=1)
        ],
    }


def result(bbox: list[int], score: float = 0.9, category_id: int = 1) -> dict[str, Any]:
    return {"image_id": 1, "category_id": category_id, "bbox": bbox, "score": score}


@pytest.mark.parametrize(
    ("results", "ap", "ap50", "ap75"),
    [
        pytest.param([result(LEFT), result(RIGHT, 0.8)], 1.0, 1.0, 1.0, id="both boxes, exactly"),
        pytest.param([result(LEFT)], 51 / 101, 51 / 101, 51 / 101, id="one of two: recalls 0.00 to 0.50"),
        pytest.param(  # the second of three is wrong: precision 2/3 from recall 0.51 on
            [result(LEFT), result([0, 200, 50, 50], 0.8), result(RIGHT, 0.7)],
            (51 + 50 * 2 / 3) / 101,
            (51 + 50 * 2 / 3) / 101,
            (51 + 50 * 2 / 3) / 101,
            id="a wrong one between two right ones",
        ),
        pytest.param(  # IoU 0.62 counts at 0.50, 0.55 and 0.60
            [result([0, 0, 100, 62]), result([200, 0, 100, 62])], 0.3, 1.0, 0.0, id="boxes that are 62 % right"
        ),
        pytest.param([result([0, 200, 50, 50])], 0.0, 0.0, 0.0, id="only a wrong one"),
        pytest.param([], 0.0, 0.0, 0.0, id="no result"),
    ],
)
def test_precision_of(results: list[dict[str, Any]], ap: float, ap50: float, ap75: float) -> None:
    numbers = coco_metrics(truth(LEFT, RIGHT), results)
    found = torch.tensor([numbers[name] for name in ("AP", "AP50", "AP75")], dtype=torch.float64)
    torch.testing.assert_close(found, torch.tensor([ap, ap50, ap75], dtype=torch.float64), rtol=0, atol=1e-9)


def test_all_twelve_numbers_have_names() -> None:
    numbers = coco_metrics(truth(LEFT), [result(LEFT)])
    assert tuple(numbers) == METRICS
    assert len(METRICS) == 12
    assert all(type(number) is float for number in numbers.values())


def test_sizes_that_do_not_occur_are_minus_one() -> None:
    numbers = coco_metrics(truth(LEFT), [result(LEFT)])
    assert [numbers[name] for name in ("APs", "APm", "APl")] == [-1.0, -1.0, pytest.approx(1.0)]


def test_recall_at_one_counts_the_best_box_of_an_image_only() -> None:
    numbers = coco_metrics(truth(LEFT, RIGHT), [result(LEFT), result(RIGHT, 0.8)])
    assert (numbers["AR@1"], numbers["AR@10"]) == (0.5, 1.0)


def test_a_box_of_another_class_is_no_hit() -> None:
    assert coco_metrics(truth(LEFT, categories=2), [result(LEFT, category_id=2)])["AP"] == 0.0


def test_detections_are_evaluated_as_they_come() -> None:
    boxes = torch.tensor([[0.0, 0.0, 100.0, 100.0], [200.0, 0.0, 300.0, 100.0]])
    found = Detections(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 0]), ("thing",))
    assert coco_metrics(truth(LEFT, RIGHT), found.to_coco(1, category_ids=[1]))["AP"] == pytest.approx(1.0)


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    coco_metrics(truth(LEFT), [result(LEFT)])
    coco_metrics(truth(LEFT), [])
    assert capsys.readouterr() == ("", "")


def test_what_is_given_is_left_as_it_is() -> None:
    annotations, results = truth(LEFT, RIGHT), [result(LEFT)]
    before = copy.deepcopy((annotations, results))
    coco_metrics(annotations, results)
    assert (annotations, results) == before


@pytest.mark.parametrize(("plus_one", "sides"), [(False, [3, 4]), (True, [4, 5])], ids=["corners", "pixel indices"])
def test_labels_count_from_one_and_others_are_dropped_with(plus_one: bool, sides: list[int]) -> None:
    record = {"image_id": 1, "boxes": [[1, 2, 4, 6]] * 4, "scores": [0.1, 0.2, 0.3, 0.4], "labels": [0, 1, 2, 3]}
    found = coco_results({"categories": [{"id": 3}, {"id": 9}]}, [record], plus_one=plus_one)
    assert found == [
        {"image_id": 1, "category_id": 3, "bbox": [1, 2, *sides], "score": 0.2},
        {"image_id": 1, "category_id": 9, "bbox": [1, 2, *sides], "score": 0.3},
    ]


def test_without_a_true_box_nothing_is_defined() -> None:
    assert set(coco_metrics(truth(), [result(LEFT)]).values()) == {-1.0}


def test_a_result_of_an_unknown_image_is_refused() -> None:
    with pytest.raises(DataError, match="2"):
        coco_metrics(truth(LEFT), [{**result(LEFT), "image_id": 2}])
