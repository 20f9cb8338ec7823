"""NMS keeps the best box of those that overlap more than a threshold, per label or of all labels."""

import pytest
import torch

from glip.detection.nms import suppress

# Two squares of 10 pixels, the second moved right by 3: plain IoU 70 / 130 = 0.538; the legacy sides are 11, so
# 88 / 154 = 0.571.
SQUARES = torch.tensor([[0.0, 0.0, 10.0, 10.0], [3.0, 0.0, 13.0, 10.0]])
SCORES = torch.tensor([0.9, 0.8])
SAME = torch.tensor([0, 0])


@pytest.mark.parametrize(
    ("legacy", "threshold", "kept"),
    [
        pytest.param(False, 0.53, [0], id="plain overlap of 0.538 over 0.53"),
        pytest.param(False, 0.55, [0, 1], id="plain overlap of 0.538 under 0.55"),
        pytest.param(True, 0.55, [0], id="legacy overlap of 0.571 over 0.55"),
        pytest.param(True, 0.58, [0, 1], id="legacy overlap of 0.571 under 0.58"),
    ],
)
def test_two_squares_with_a(legacy: bool, threshold: float, kept: list[int]) -> None:
    found = suppress(SQUARES, SCORES, SAME, threshold=threshold, legacy=legacy)
    assert found.tolist() == kept


@pytest.mark.parametrize(
    ("class_agnostic", "kept"),
    [pytest.param(False, [0, 1], id="its own label only"), pytest.param(True, [0], id="all labels")],
)
def test_a_box_suppresses(class_agnostic: bool, kept: list[int]) -> None:
    found = suppress(SQUARES, SCORES, torch.tensor([0, 1]), threshold=0.5, class_agnostic=class_agnostic)
    assert found.tolist() == kept


@pytest.mark.parametrize("class_agnostic", [pytest.param(False, id="by label"), pytest.param(True, id="of all labels")])
def test_what_is_kept_comes_best_first_and_ties_in_input_order(class_agnostic: bool) -> None:
    boxes = torch.tensor([[20.0 * index, 0.0, 20.0 * index + 10, 10.0] for index in range(5)])
    scores = torch.tensor([0.5, 0.9, 0.5, 0.9, 0.5])
    labels = torch.tensor([1, 0, 0, 1, 0])
    assert suppress(boxes, scores, labels, threshold=0.5, class_agnostic=class_agnostic).tolist() == [1, 3, 0, 2, 4]


@pytest.mark.parametrize("class_agnostic", [pytest.param(False, id="by label"), pytest.param(True, id="of all labels")])
def test_of_equal_boxes_with_equal_scores_the_first_stays(class_agnostic: bool) -> None:
    boxes = SQUARES[:1].expand(40, 4)
    found = suppress(
        boxes, torch.full((40,), 0.7), torch.zeros(40).long(), threshold=0.5, class_agnostic=class_agnostic
    )
    assert found.tolist() == [0]


def test_a_suppressed_box_suppresses_nothing() -> None:
    # Each overlaps the next by 0.571, and the one after that by 55 / 187 = 0.294 (moved by 6).
    boxes = torch.tensor([[3.0 * index, 0.0, 3.0 * index + 10, 10.0] for index in range(3)])
    found = suppress(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3).long(), threshold=0.5)
    assert found.tolist() == [0, 2]


def test_labels_far_from_zero_cost_no_digits() -> None:
    found = suppress(SQUARES, SCORES, torch.tensor([1202, 1202]), threshold=0.5714, legacy=True)
    assert found.tolist() == [0]  # 88 / 154 = 0.57143


@pytest.mark.parametrize("class_agnostic", [pytest.param(False, id="by label"), pytest.param(True, id="of all labels")])
def test_of_nothing_nothing_stays(class_agnostic: bool) -> None:
    found = suppress(
        torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), threshold=0.5, class_agnostic=class_agnostic
    )
    assert found.tolist() == []
    assert found.dtype == torch.int64


def test_inputs_are_unchanged() -> None:
    boxes = SQUARES.clone()
    suppress(boxes, SCORES, SAME, threshold=0.5)
    assert torch.equal(boxes, SQUARES)
