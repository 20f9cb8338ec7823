"""An answer is as right as people agree with it, after VQA's normalisation."""

import pytest
import torch

from glip.errors import DataError
from glip.text.answers import agreement, answer_vocabulary, normalise_answer, soft_targets


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        pytest.param("Red", "red", id="capitals"),
        pytest.param("the red cup", "red cup", id="an article"),
        pytest.param("two", "2", id="a number word"),
        pytest.param("None", "0", id="none is zero"),
        pytest.param("ten dogs", "10 dogs", id="a number word among others"),
        pytest.param("dont know", "don't know", id="a contraction without its apostrophe"),
        pytest.param("girl's", "girl's", id="a possessive keeps its apostrophe"),
        pytest.param("well", "well", id="a word that is no contraction"),
        pytest.param("2:50 pm.", "2:50 pm", id="a time keeps its colon, a last point goes"),
        pytest.param("3.5", "3.5", id="a decimal point stays"),
        pytest.param("100,978", "100978", id="a comma inside a number goes"),
        pytest.param("red,blue/green", "red blue green", id="other punctuation becomes a space"),
        pytest.param("t-shirt", "t shirt", id="a hyphen becomes a space"),
        pytest.param(" yes \n", "yes", id="space round it"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_the_normal_form_of(answer: str, normal: str) -> None:
    assert normalise_answer(answer) == normal
    assert normalise_answer(normal) == normal


@pytest.mark.parametrize(("matches", "score"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_of_ten_people_so_many_make(matches: int, score: float) -> None:
    people = ["Two"] * matches + ["three"] * (10 - matches)
    assert agreement("2", people) == pytest.approx(score)


@pytest.mark.parametrize("matches", range(11))
def test_agreement_is_the_mean_over_leaving_each_one_out(matches: int) -> None:
    people = ["yes"] * matches + ["no"] * (10 - matches)
    subsets = [people[:index] + people[index + 1 :] for index in range(10)]
    assert agreement("yes", people) == pytest.approx(sum(min(s.count("yes") / 3, 1.0) for s in subsets) / 10)


def test_soft_targets_are_the_agreement_with_each_answer_of_the_vocabulary() -> None:
    people = ["red"] * 6 + ["dark red"] * 3 + ["the brown"]
    expected = torch.tensor([0.3, 1.0, 0.0, 0.9])
    torch.testing.assert_close(soft_targets(people, ["brown", "red", "blue", "dark red"]), expected)
    assert soft_targets(people, []).shape == (0,)


def test_the_vocabulary_holds_what_is_often_the_commonest_answer() -> None:
    questions = [["Yes"] * 3 + ["no"] * 2, ["yes."] * 4, ["no"] * 4, ["2"] * 4, ["two"] * 5, ["yes"] * 4]
    assert answer_vocabulary(questions, min_count=2) == ("yes", "2")
    assert answer_vocabulary(questions, min_count=1) == ("yes", "2", "no")


@pytest.mark.parametrize("questions", [[], [["red"] * 4]], ids=["no question", "too few questions"])
def test_a_vocabulary_without_an_answer_is_refused(questions: list[list[str]]) -> None:
    with pytest.raises(DataError, match="lower min_count"):
        answer_vocabulary(questions, min_count=2)


@pytest.mark.parametrize("people", [[], ["red"] * 3, "blue"], ids=["nobody", "three people", "a bare word"])
def test_answers_of_fewer_than_four_people_are_refused(people: list[str]) -> None:
    with pytest.raises(DataError, match=r"at least 4 people.*repeat an answer that is certain"):
        agreement("red", people)
