"""A phrase is found if one of its k best boxes has an IoU of at least 0.5 with one of its true boxes."""

import pytest
import torch

from glip.evaluation.recall import is_hit, recall_at

SQUARE = [0.0, 0.0, 10.0, 10.0]
HALF = [0.0, 0.0, 10.0, 5.0]  # IoU 0.5 with the square
LESS = [0.0, 0.0, 10.0, 4.9]
ELSEWHERE = [50.0, 50.0, 60.0, 60.0]


@pytest.mark.parametrize(
    ("boxes", "targets", "k", "hit"),
    [
        pytest.param([SQUARE], [SQUARE], 1, True, id="the box itself"),
        pytest.param([HALF], [SQUARE], 1, True, id="an IoU of just 0.5"),
        pytest.param([LESS], [SQUARE], 1, False, id="an IoU of 0.49"),
        pytest.param([ELSEWHERE, SQUARE], [SQUARE], 1, False, id="the second box when one may try"),
        pytest.param([ELSEWHERE, SQUARE], [SQUARE], 2, True, id="the second box when two may try"),
        pytest.param([SQUARE], [SQUARE], 10, True, id="fewer boxes than may try"),
        pytest.param([SQUARE], [ELSEWHERE, SQUARE], 1, True, id="any one of two true boxes"),
        pytest.param([LESS, LESS], [SQUARE, ELSEWHERE], 2, False, id="none of two for none of two"),
        pytest.param([], [SQUARE], 5, False, id="no box at all"),
        pytest.param([SQUARE], [], 5, False, id="no true box"),
    ],
)
def test_a_hit_by(boxes: list[list[float]], targets: list[list[float]], k: int, hit: bool) -> None:
    found, truth = (torch.tensor(corners).view(-1, 4) for corners in (boxes, targets))
    assert is_hit(found, truth, k=k) is hit


def test_another_threshold_may_be_asked_for() -> None:
    assert is_hit(torch.tensor([LESS]), torch.tensor([SQUARE]), k=1, threshold=0.49)
    assert not is_hit(torch.tensor([HALF]), torch.tensor([SQUARE]), k=1, threshold=0.51)


@pytest.mark.parametrize(
    ("hits", "recall"),
    [
        pytest.param([True, False, True, True], 0.75, id="three of four"),
        pytest.param([True], 1.0, id="all"),
        pytest.param([False, False], 0.0, id="none of two"),
        pytest.param([], 0.0, id="no phrase"),
    ],
)
def test_recall_of(hits: list[bool], recall: float) -> None:
    assert recall_at(hits) == recall
