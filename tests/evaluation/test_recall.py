"""A phrase is found if one of its k best boxes has an IoU of at least 0.5 with one of its true boxes."""

import pytest
import torch

from glip.evaluation.recall import Query, count_hits, is_hit, recall_at

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


def query(*boxes: list[float], scores: list[float], kinds: tuple[str, ...] = ()) -> Query:
    return Query(torch.tensor(boxes).view(-1, 4), torch.tensor(scores), torch.tensor([SQUARE]), kinds)


def test_hits_at_each_rank_by_hand() -> None:
    """The right box is first by its score, second of two, first of two equal ones, and nowhere."""
    queries = [
        query(ELSEWHERE, SQUARE, scores=[0.1, 0.9], kinds=("best",)),
        query(ELSEWHERE, SQUARE, scores=[0.9, 0.1], kinds=("second",)),
        query(SQUARE, ELSEWHERE, scores=[0.5, 0.5]),
        query(scores=[]),
    ]
    report = count_hits(queries, ranks=(1, 2, None))
    assert report.totals == {"all": 4, "best": 1, "second": 1}
    assert report.recall == {
        "recall@1": {"all": 0.5, "best": 1.0, "second": 0.0},
        "recall@2": {"all": 0.75, "best": 1.0, "second": 1.0},
        "upper_bound": {"all": 0.75, "best": 1.0, "second": 1.0},
    }


def test_no_query_has_a_recall_of_zero() -> None:
    assert count_hits([], ranks=(1,)).recall == {"recall@1": {"all": 0.0}}
