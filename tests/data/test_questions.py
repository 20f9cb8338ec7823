"""Questions have one right answer, which boxes, names and colours decide; captions tell of the two largest things."""

import random

import pytest

from glip.data.describe import Placed
from glip.data.questions import Question, ask_questions, caption_things
from glip.text.answers import agreement, normalise_answer

SIZE = (200, 200)
SEEDS = range(60)
CUP = Placed("cup", (20.0, 80.0, 60.0, 120.0), "red")
DOG = Placed("dog", (140.0, 80.0, 180.0, 120.0), "blue")


def asked(*things: Placed, absent: tuple[str, ...] = (), colours: tuple[str, ...] = ("red", "blue")) -> set[Question]:
    """Every question that some seed asks."""
    return {
        question
        for seed in SEEDS
        for question in ask_questions(things, SIZE, random.Random(seed), absent=absent, colours=colours)
    }


def texts(questions: set[Question], kind: str) -> dict[str, str]:
    return {question.text: question.answer for question in questions if question.kind == kind}


def test_what_colour_is_the_only_one_of_its_name() -> None:
    second = Placed("dog", (0.0, 0.0, 10.0, 10.0), "red")
    plain = Placed("tree", (90.0, 0.0, 99.0, 10.0))  # its colour is not known
    assert texts(asked(CUP, DOG, second, plain), "colour") == {"what colour is the cup": "red"}
    (question,) = (question for question in asked(CUP) if question.kind == "colour")
    assert question.box == CUP.box


def test_how_many_counts_what_is_there_and_what_is_not() -> None:
    second = Placed("dog", (0.0, 0.0, 10.0, 10.0), "red")
    questions = asked(CUP, DOG, second, absent=("bus",))
    assert texts(questions, "count") == {
        "how many cups are there": "1",
        "how many dogs are there": "2",
        "how many buses are there": "0",
    }
    assert {question.box for question in questions if question.kind == "count"} == {None}


def test_every_question_says_where_its_words_stand_and_what_they_name() -> None:
    second = Placed("dog", (0.0, 0.0, 10.0, 10.0), "red")
    questions = asked(CUP, DOG, second, absent=("bus",))
    named = {question.text: ({*question.about}, question.text[slice(*question.span)]) for question in questions}
    assert named["how many dogs are there"] == ({DOG.box, second.box}, "dogs")
    assert named["how many buses are there"] == (set(), "buses")
    assert named["what colour is the cup"] == ({CUP.box}, "cup")
    assert named["is there a blue dog"] == ({DOG.box}, "blue dog")
    assert named["is there a blue cup"] == (set(), "blue cup")


def test_each_number_is_asked_for_as_often() -> None:
    """Nine absent names do not make nine tenths of the answers 0."""
    absent = tuple(f"thing{number}" for number in range(9))
    draw = random.Random(0)
    answers = [question.answer for _ in range(400) for question in ask_questions([CUP], SIZE, draw, absent=absent)]
    assert 0.4 < answers.count("0") / (answers.count("0") + answers.count("1")) < 0.6


@pytest.mark.parametrize(
    ("box", "way", "opposite"),
    [
        pytest.param((0.0, 80.0, 40.0, 120.0), "left of", "right of", id="left"),
        pytest.param((160.0, 80.0, 200.0, 120.0), "right of", "left of", id="right"),
        pytest.param((80.0, 0.0, 120.0, 40.0), "above", "below", id="above"),
        pytest.param((80.0, 160.0, 120.0, 200.0), "below", "above", id="below"),
    ],
)
def test_what_is_beside_a_thing(box: tuple[float, float, float, float], way: str, opposite: str) -> None:
    middle, other = Placed("cup", (80.0, 80.0, 120.0, 120.0)), Placed("dog", box)
    questions = asked(middle, other)
    assert texts(questions, "relation") == {f"what is {way} the cup": "dog", f"what is {opposite} the dog": "cup"}
    assert {(q.answer, q.box) for q in questions if q.kind == "relation"} == {("dog", box), ("cup", middle.box)}


@pytest.mark.parametrize(
    "box",
    [
        pytest.param((10.0, 40.0, 30.0, 60.0), id="a second one in the same direction"),
        pytest.param((40.0, 20.0, 60.0, 40.0), id="one that is as much above as left"),
    ],
)
def test_what_is_left_of_a_thing_is_not_asked_with(box: tuple[float, float, float, float]) -> None:
    middle, other = Placed("cup", (80.0, 80.0, 120.0, 120.0)), Placed("dog", (0.0, 80.0, 40.0, 120.0))
    assert "what is left of the cup" in texts(asked(middle, other), "relation")
    assert "what is left of the cup" not in texts(asked(middle, other, Placed("tree", box)), "relation")


def test_a_thing_among_namesakes_is_named_with_its_colour_or_not_at_all() -> None:
    twin = Placed("cup", (20.0, 180.0, 60.0, 200.0), "blue")
    found = texts(asked(CUP, twin, DOG), "relation")
    assert found["what is right of the red cup"] == "dog"
    assert not any("the cup" in text for text in found)
    alike = Placed("cup", (20.0, 180.0, 60.0, 200.0), "red")
    assert not any("cup" in text for text in texts(asked(CUP, alike, DOG), "relation"))


def test_is_there_one_asks_for_names_and_for_names_in_colours() -> None:
    questions = asked(CUP, absent=("bus",), colours=("red", "green"))
    expected = {
        "is there a cup": "yes",
        "is there a bus": "no",
        "is there a red cup": "yes",
        "is there a green cup": "no",
    }
    assert texts(questions, "presence") == expected
    boxes = {question.answer: question.box for question in questions if question.kind == "presence"}
    assert boxes == {"yes": CUP.box, "no": None}


def test_a_colour_is_not_asked_for_where_a_namesakes_is_unknown() -> None:
    plain = Placed("cup", (150.0, 150.0, 170.0, 170.0))
    questions = asked(CUP, plain, absent=("bus",))
    assert texts(questions, "presence") == {"is there a cup": "yes", "is there a bus": "no"}
    assert {question.box for question in questions if question.kind == "presence"} == {None}  # two cups: no one box


def test_names_that_share_a_word_are_not_used() -> None:
    """Is a cup cake a cake? Nobody should be asked."""
    assert not asked(Placed("cake", (0.0, 0.0, 50.0, 50.0)), Placed("cup cake", (100.0, 0.0, 150.0, 50.0)))
    assert texts(asked(CUP, absent=("paper cup",)), "count") == {"how many cups are there": "1"}


def test_of_nothing_only_what_is_absent_is_asked() -> None:
    assert asked() == set()
    assert {(q.text, q.answer) for q in asked(absent=("cup",))} == {
        ("how many cups are there", "0"),
        ("is there a cup", "no"),
    }


def test_answers_are_in_their_normal_form_and_ten_people_agree() -> None:
    for question in asked(CUP, DOG, absent=("bus",)):
        assert normalise_answer(question.answer) == question.answer
        assert agreement(question.answer, question.given) == 1.0


def test_the_same_chance_asks_the_same() -> None:
    once, again = (ask_questions([CUP, DOG], SIZE, random.Random(3), absent=["bus"]) for _ in range(2))
    assert once == again
    assert len({question.kind for question in once}) == len(once) == 4


# --- captions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("things", "first", "also"),
    [
        pytest.param([], "an empty picture", "there is nothing in the picture", id="no thing"),
        pytest.param([CUP], "a red cup", "there is a red cup", id="one thing"),
        pytest.param([CUP, DOG], "a red cup left of a blue dog", "a blue dog right of a red cup", id="side by side"),
        pytest.param([CUP, CUP], "two red cups", "a pair of red cups", id="two that are called the same"),
        pytest.param(
            [CUP, Placed("owl", (45.0, 65.0, 75.0, 95.0))], "a red cup and an owl", "an owl and a red cup", id="near"
        ),
        pytest.param(
            [Placed("fly", (0.0, 0.0, 5.0, 5.0)), DOG, CUP],
            "a blue dog right of a red cup",
            "a red cup left of a blue dog",
            id="the two largest of three",
        ),
    ],
)
def test_a_caption_of(things: list[Placed], first: str, also: str) -> None:
    told = caption_things(things, SIZE, random.Random(0))
    assert told.references[0] == first
    assert also in told.references
    assert len(set(told.references)) == len(told.references)


def test_the_caption_is_any_of_its_references() -> None:
    told = [caption_things([CUP, DOG], SIZE, random.Random(seed)) for seed in SEEDS]
    assert {one.caption for one in told} == set(told[0].references)
