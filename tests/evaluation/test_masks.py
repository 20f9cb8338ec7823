"""Masks are compared by IoU: COCO's AP of instances, PhraseCut's numbers of phrases."""

from typing import Any

import pytest
import torch

from glip.errors import DataError, ShapeError
from glip.evaluation.coco import coco_metrics, coco_report
from glip.evaluation.masks import phrase_mask, phrase_mask_metrics
from glip.structures.masks import encode_masks, mask_boxes


def area(x1: int, y1: int, x2: int, y2: int) -> torch.Tensor:
    """A filled rectangle in a picture 20 high and 40 wide."""
    mask = torch.zeros(20, 40, dtype=torch.bool)
    mask[y1:y2, x1:x2] = True
    return mask


WHOLE, UPPER, NOTHING = area(0, 0, 10, 10), area(0, 0, 10, 6), area(0, 0, 0, 0)


def truth(*masks: torch.Tensor) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "height": 20, "width": 40}],
        "categories": [{"id": 7, "name": "thing"}],
        "annotations": [{**record, "id": number, "iscrowd": 0} for number, record in enumerate(records(*masks))],
    }


def records(*masks: torch.Tensor) -> list[dict[str, Any]]:
    return [
        {"image_id": 1, "category_id": 7, "segmentation": encode_masks(mask[None])[0], "bbox": xywh(mask)}
        for mask in masks
    ]


def xywh(mask: torch.Tensor) -> list[float]:
    x1, y1, x2, y2 = mask_boxes(mask[None])[0].tolist()
    return [x1, y1, x2 - x1, y2 - y1]


def found(*masks: torch.Tensor) -> list[dict[str, Any]]:
    return [{**record, "score": 0.9 - 0.1 * place} for place, record in enumerate(records(*masks))]


# --- instances ---------------------------------------------------------------------------------------------------


def test_a_frame_and_a_full_square_have_one_box_and_two_masks() -> None:
    frame = WHOLE & ~area(2, 2, 8, 8)  # 64 of 100 pixels
    boxes, masks = (coco_metrics(truth(WHOLE), found(frame), shape=shape) for shape in ("bbox", "segm"))
    assert boxes["AP"] == pytest.approx(1.0)
    assert masks["AP"] == pytest.approx(0.3)  # IoU 0.64 counts at 0.50, 0.55 and 0.60
    assert masks["AP50"] == pytest.approx(1.0)
    assert masks["AP75"] == 0.0


def test_true_masks_may_be_polygons_and_need_no_area() -> None:
    square = {**truth(WHOLE)["annotations"][0], "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]]}
    assert coco_metrics({**truth(), "annotations": [square]}, found(WHOLE), shape="segm")["AP"] == pytest.approx(1.0)


def test_size_is_the_masks_area_and_not_the_boxs() -> None:
    big = {"images": [{"id": 1, "height": 60, "width": 60}]}
    frame = torch.ones(60, 60, dtype=torch.bool)
    frame[3:57, 3:57] = False  # 684 pixels, below 32 x 32, in a box of 3,600
    numbers = coco_metrics({**truth(frame), **big}, found(frame), shape="segm")
    assert numbers["APs"] == pytest.approx(1.0)
    assert numbers["APm"] == -1.0


def test_each_class_has_its_ap_of_masks() -> None:
    assert coco_report(truth(WHOLE), found(UPPER), shape="segm").per_class[7]["AP"] == pytest.approx(0.3)


def test_no_result_is_zero_and_no_truth_is_undefined() -> None:
    assert coco_metrics(truth(WHOLE), [], shape="segm")["AP"] == 0.0
    assert coco_metrics(truth(), found(WHOLE), shape="segm")["AP"] == -1.0


def test_a_record_without_a_mask_is_refused() -> None:
    bare = {key: value for key, value in found(WHOLE)[0].items() if key != "segmentation"}
    with pytest.raises(DataError, match="image 1: a record has no segmentation"):
        coco_metrics(truth(WHOLE), [bare], shape="segm")


# --- phrases -----------------------------------------------------------------------------------------------------


def test_mean_counts_phrases_and_cumulative_counts_pixels() -> None:
    pairs = [(WHOLE, WHOLE), (area(0, 0, 1, 1), area(0, 0, 2, 1))]  # IoU 1 of 100 pixels, 1/2 of 2
    numbers = phrase_mask_metrics(pairs)
    assert numbers["mean_iou"] == pytest.approx(0.75)
    assert numbers["cumulative_iou"] == pytest.approx(101 / 102)
    assert [numbers[f"precision@{least}"] for least in (0.5, 0.7, 0.9)] == [1.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("one", "other", "iou"),
    [
        pytest.param(UPPER, WHOLE, 0.6, id="six tenths of it"),
        pytest.param(area(10, 0, 20, 10), WHOLE, 0.0, id="beside it"),
        pytest.param(NOTHING, WHOLE, 0.0, id="nothing"),
        pytest.param(NOTHING, NOTHING, 1.0, id="nothing where nothing is"),
    ],
)
def test_iou_of_masks(one: torch.Tensor, other: torch.Tensor, iou: float) -> None:
    numbers = phrase_mask_metrics([(one, other)])
    assert numbers["mean_iou"] == numbers["cumulative_iou"] == pytest.approx(iou)


def test_no_phrase_is_zero() -> None:
    assert set(phrase_mask_metrics([]).values()) == {0.0}


def test_a_phrase_is_where_its_high_scores_are_or_its_best_one() -> None:
    masks = torch.stack([WHOLE, area(20, 0, 30, 10), area(30, 0, 40, 10)])
    both, best = masks[0] | masks[1], masks[0]
    torch.testing.assert_close(phrase_mask(masks, torch.tensor([0.9, 0.7, 0.6])), both)
    torch.testing.assert_close(phrase_mask(masks, torch.tensor([0.5, 0.4, 0.3])), best)
    torch.testing.assert_close(phrase_mask(masks, torch.tensor([0.5, 0.4, 0.3]), threshold=0.4), both)
    torch.testing.assert_close(phrase_mask(masks[:0], torch.zeros(0)), NOTHING)


def test_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"both be \(H, W\) bool"):
        phrase_mask_metrics([(WHOLE, WHOLE[:5])])
    with pytest.raises(ShapeError, match=r"2 masks need scores \(2,\)"):
        phrase_mask(torch.stack([WHOLE, UPPER]), torch.zeros(3))
