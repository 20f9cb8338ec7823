"""Boxes are (N, 4), xyxy, in pixels; the functions of them are exact on hand-made numbers."""

import pytest
import torch

from glip.errors import ShapeError
from glip.structures.boxes import (
    box_areas,
    check_boxes,
    clip_boxes,
    elementwise_giou,
    pairwise_giou,
    pairwise_iou,
    scale_boxes,
    xywh_to_xyxy,
    xyxy_to_xywh,
)

SQUARE = [0.0, 0.0, 10.0, 10.0]
EMPTY = torch.zeros(0, 4)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_list_of_boxes_is_accepted(count: int) -> None:
    check_boxes(torch.zeros(count, 4))


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((4,), id="one box without a list"),
        pytest.param((0,), id="an empty list without columns"),
        pytest.param((2, 5), id="five columns"),
        pytest.param((1, 2, 4), id="a batch"),
    ],
)
def test_other_shapes_are_refused_by_name(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"anchors must be \(N, 4\) xyxy, got \(" + str(shape[0])):
        check_boxes(torch.zeros(shape), name="anchors")


@pytest.mark.parametrize(
    ("box", "pixel", "area"),
    [
        pytest.param([1.0, 2.0, 4.0, 7.0], 0.0, 15.0, id="three by five"),
        pytest.param([1.0, 2.0, 4.0, 7.0], 1.0, 24.0, id="corners are pixel indices: four by six"),
        pytest.param([3.0, 3.0, 3.0, 9.0], 0.0, 0.0, id="no width"),
        pytest.param([3.0, 3.0, 3.0, 3.0], 1.0, 1.0, id="one pixel"),
        pytest.param([5.0, 5.0, 1.0, 1.0], 0.0, 0.0, id="both axes crossed do not make an area"),
        pytest.param([-2.0, -3.0, 2.0, 3.0], 0.0, 24.0, id="across zero"),
    ],
)
def test_area(box: list[float], pixel: float, area: float) -> None:
    torch.testing.assert_close(box_areas(torch.tensor([box]), pixel=pixel), torch.tensor([area]))


def test_areas_keep_leading_dimensions() -> None:
    torch.testing.assert_close(box_areas(torch.tensor(SQUARE).expand(2, 3, 4)), torch.full((2, 3), 100.0))
    assert box_areas(EMPTY).shape == (0,)


@pytest.mark.parametrize(
    ("other", "iou", "giou"),
    [
        pytest.param([0.0, 0.0, 10.0, 10.0], 1.0, 1.0, id="itself"),
        pytest.param([5.0, 0.0, 15.0, 10.0], 1 / 3, 1 / 3, id="shifted by half its width: no gap"),
        pytest.param([10.0, 0.0, 20.0, 10.0], 0.0, 0.0, id="only an edge in common"),
        pytest.param([5.0, 5.0, 15.0, 15.0], 1 / 7, 1 / 7 - 50 / 225, id="a corner in common: 50 of 225 empty"),
        pytest.param([20.0, 0.0, 30.0, 10.0], 0.0, -1 / 3, id="apart: 100 of 300 empty"),
        pytest.param([2.0, 2.0, 7.0, 7.0], 0.25, 0.25, id="inside"),
        pytest.param([2.0, 2.0, 2.0, 8.0], 0.0, 0.0, id="a box without width"),
        pytest.param([20.0, 0.0, 20.0, 10.0], 0.0, -0.5, id="a box without width, apart: 100 of 200 empty"),
    ],
)
def test_overlap_of_a_ten_pixel_square_with(other: list[float], iou: float, giou: float) -> None:
    square, others = torch.tensor([SQUARE]), torch.tensor([other])
    torch.testing.assert_close(pairwise_iou(square, others), torch.tensor([[iou]]))
    torch.testing.assert_close(pairwise_iou(others, square), torch.tensor([[iou]]))
    torch.testing.assert_close(pairwise_giou(square, others), torch.tensor([[giou]]))
    torch.testing.assert_close(pairwise_giou(others, square), torch.tensor([[giou]]))
    torch.testing.assert_close(elementwise_giou(square, others), torch.tensor([giou]))


def test_iou_of_pixel_indices_counts_the_last_pixel() -> None:
    left, right = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[1.0, 0.0, 2.0, 1.0]])
    torch.testing.assert_close(pairwise_iou(left, right, pixel=1.0), torch.tensor([[1 / 3]]))  # 2 pixels of 6
    torch.testing.assert_close(pairwise_iou(left, right), torch.tensor([[0.0]]))


def test_two_points_overlap_by_zero_not_by_nan() -> None:
    point = torch.tensor([[3.0, 3.0, 3.0, 3.0]])
    torch.testing.assert_close(pairwise_iou(point, point), torch.tensor([[0.0]]))
    torch.testing.assert_close(pairwise_giou(point, point), torch.tensor([[0.0]]))
    assert elementwise_giou(point, point).isfinite().all()


def test_every_pair_has_its_row_and_column() -> None:
    boxes1 = torch.tensor([SQUARE, [20.0, 0.0, 30.0, 10.0]])
    boxes2 = torch.tensor([[20.0, 0.0, 30.0, 10.0], [0.0, 0.0, 5.0, 10.0], SQUARE])
    torch.testing.assert_close(pairwise_iou(boxes1, boxes2), torch.tensor([[0.0, 0.5, 1.0], [1.0, 0.0, 0.0]]))
    torch.testing.assert_close(pairwise_giou(boxes1, boxes2), torch.tensor([[-1 / 3, 0.5, 1.0], [1.0, -0.5, -1 / 3]]))


def test_overlaps_of_no_boxes_are_empty() -> None:
    three = torch.tensor([SQUARE] * 3)
    assert pairwise_iou(EMPTY, three).shape == pairwise_giou(EMPTY, three).shape == (0, 3)
    assert pairwise_iou(three, EMPTY).shape == pairwise_giou(three, EMPTY).shape == (3, 0)
    assert elementwise_giou(EMPTY, EMPTY).shape == (0,)


def test_crossed_corners_of_a_prediction_count_as_a_side_of_zero() -> None:
    crossed, flat = torch.tensor([[8.0, 0.0, 2.0, 10.0]]), torch.tensor([[8.0, 0.0, 8.0, 10.0]])
    square = torch.tensor([SQUARE])
    torch.testing.assert_close(elementwise_giou(crossed, square), elementwise_giou(flat, square))
    torch.testing.assert_close(elementwise_giou(crossed, square), torch.tensor([0.0]))


def test_giou_pulls_boxes_that_are_apart() -> None:
    boxes = torch.tensor([[20.0, 0.0, 30.0, 10.0]], requires_grad=True)
    elementwise_giou(boxes, torch.tensor([SQUARE])).sum().backward()
    assert boxes.grad is not None
    assert boxes.grad[0, 0] < 0  # a smaller left side is better


@pytest.mark.parametrize(
    ("box", "pixel", "clipped"),
    [
        pytest.param([1.0, 2.0, 3.0, 4.0], 0.0, [1.0, 2.0, 3.0, 4.0], id="a box inside stays"),
        pytest.param([-5.0, -1.0, 99.0, 99.0], 0.0, [0.0, 0.0, 20.0, 10.0], id="the image's sides, width first"),
        pytest.param([-5.0, -1.0, 99.0, 99.0], 1.0, [0.0, 0.0, 19.0, 9.0], id="its last pixels"),
        pytest.param([30.0, 30.0, 40.0, 40.0], 0.0, [20.0, 10.0, 20.0, 10.0], id="a box outside loses its area"),
    ],
)
def test_clipping_to_ten_rows_and_twenty_columns(box: list[float], pixel: float, clipped: list[float]) -> None:
    boxes = torch.tensor([box])
    torch.testing.assert_close(clip_boxes(boxes, (10, 20), pixel=pixel), torch.tensor([clipped]))
    torch.testing.assert_close(boxes, torch.tensor([box]))  # the input is left as it was
    assert clip_boxes(EMPTY, (10, 20)).shape == (0, 4)


def test_the_two_axes_are_scaled_by_ratios_of_their_own() -> None:
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    scaled = scale_boxes(boxes, (10, 20), (30, 40))  # height x 3, width x 2
    torch.testing.assert_close(scaled, torch.tensor([[2.0, 6.0, 6.0, 12.0]]))
    torch.testing.assert_close(scale_boxes(scaled, (30, 40), (10, 20)), boxes)
    assert scale_boxes(EMPTY, (10, 20), (30, 40)).shape == (0, 4)


def test_corners_to_sides_and_back() -> None:
    boxes, boxes_xywh = torch.tensor([[1.0, 2.0, 4.0, 8.0]]), torch.tensor([[1.0, 2.0, 3.0, 6.0]])
    torch.testing.assert_close(xyxy_to_xywh(boxes), boxes_xywh)
    torch.testing.assert_close(xywh_to_xyxy(boxes_xywh), boxes)
    assert xyxy_to_xywh(EMPTY).shape == xywh_to_xyxy(EMPTY).shape == (0, 4)
