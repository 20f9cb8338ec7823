"""VQA's accuracy over questions, and the share of answers whose box is right."""

import pytest

from glip.errors import DataError, ShapeError
from glip.evaluation.answering import answer_box_recall, vqa_accuracy

SQUARE = (0.0, 0.0, 10.0, 10.0)


def test_accuracy_is_the_mean_agreement_with_people() -> None:
    people = [["red"] * 10, ["2"] * 3 + ["three"] * 7, ["yes"] * 10]
    assert vqa_accuracy(["Red", "two", "no"], people) == {"accuracy": pytest.approx((1 + 0.9 + 0) / 3)}


def test_each_kind_of_question_has_its_own_accuracy() -> None:
    people = [["red"] * 10, ["2"] * 10, ["blue"] * 10, ["left"] * 10]
    found = vqa_accuracy(["red", "3", "red", "left"], people, ["colour", "count", "colour", ""])
    assert found == {"accuracy": 0.5, "accuracy, colour": 0.5, "accuracy, count": 0.0}


def test_no_question_has_accuracy_zero() -> None:
    assert vqa_accuracy([], []) == {"accuracy": 0.0}


def test_each_question_needs_an_answer_a_kind_and_people() -> None:
    with pytest.raises(ShapeError, match="got 1 answers and 2 kinds of 2 questions"):
        vqa_accuracy(["red"], [["red"] * 10] * 2)
    with pytest.raises(ShapeError, match="got 1 answers and 2 kinds of 1 questions"):
        vqa_accuracy(["red"], [["red"] * 10], ["colour", "count"])
    with pytest.raises(DataError, match="at least 4 people"):
        vqa_accuracy(["red"], [["red"]])


@pytest.mark.parametrize(
    ("found", "recall"),
    [
        pytest.param([SQUARE], 1.0, id="the box itself"),
        pytest.param([(0.0, 0.0, 10.0, 5.0)], 1.0, id="half of it: IoU is 0.5"),
        pytest.param([(0.0, 0.0, 10.0, 4.9)], 0.0, id="less than half of it"),
        pytest.param([None], 0.0, id="nothing"),
    ],
)
def test_recall_of_a_square_with(found: list[tuple[float, ...] | None], recall: float) -> None:
    assert answer_box_recall(found, [SQUARE]) == recall


def test_answers_without_a_box_are_not_counted() -> None:
    assert answer_box_recall([SQUARE, SQUARE, None], [SQUARE, None, SQUARE]) == 0.5
    assert answer_box_recall([SQUARE], [None]) == 0.0
    assert answer_box_recall([], []) == 0.0


def test_each_question_needs_a_found_box_or_none() -> None:
    with pytest.raises(ShapeError, match="2 questions needs a found box or None, got 1"):
        answer_box_recall([None], [SQUARE, SQUARE])
