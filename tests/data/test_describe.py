"""Sentences about boxes: true of the boxes that they name, and of no others."""

import random
import re

import pytest

from glip.data.describe import Placed, Sentence, Words, describe_things, plural, tell

Things = tuple[Placed, ...]
SIZE = (100, 100)


def scene_of(*things: tuple[str, tuple[float, float, float, float]]) -> Things:
    return tuple(Placed(name, box) for name, box in things)


def words_of(sentence: Sentence) -> list[str]:
    return [sentence.caption[start:end] for thing in sentence.objects for start, end in thing.spans]


def expressions_about(scene: Things) -> dict[str, tuple[float, float, float, float]]:
    """Every referring expression that can be drawn, and the box that it names."""
    found: dict[str, tuple[float, float, float, float]] = {}
    for seed in range(200):
        for sentence in describe_things(scene, SIZE, random.Random(seed))[1:]:
            (thing,) = sentence.objects
            assert words_of(sentence) == [sentence.caption]
            assert found.setdefault(sentence.caption, thing.box) == thing.box
    return found


# --- sentences ---------------------------------------------------------------------------------------------------

APPLE, DOG = ("apple", (0.0, 40.0, 20.0, 60.0)), ("dog", (70.0, 40.0, 90.0, 60.0))


def test_nothing_to_say_about_an_empty_scene() -> None:
    assert describe_things(scene_of(), SIZE, random.Random(0)) == []


def test_one_thing_is_listed_and_needs_no_expression() -> None:
    (sentence,) = describe_things(scene_of(APPLE), SIZE, random.Random(0))
    assert sentence.caption == "an apple"
    assert [thing.box for thing in sentence.objects] == [APPLE[1]]


@pytest.mark.parametrize("seed", range(6))
def test_a_list_names_everything_once_and_its_spans_are_the_phrases(seed: int) -> None:
    second = ("apple", (0.0, 0.0, 20.0, 20.0))
    sentence = describe_things(scene_of(APPLE, DOG, second, ("cup", (50, 0, 60, 9))), SIZE, random.Random(seed))[0]
    assert sorted(re.split(", | and ", sentence.caption)) == ["a cup", "a dog", "two apples"]
    assert sentence.caption.count(" and ") == 1
    by_words: dict[str, set[tuple[float, float, float, float]]] = {}
    for thing, words in zip(sentence.objects, words_of(sentence), strict=True):
        assert thing.name == words
        by_words.setdefault(words, set()).add(thing.box)
    assert by_words == {"two apples": {APPLE[1], second[1]}, "a dog": {DOG[1]}, "a cup": {(50, 0, 60, 9)}}


@pytest.mark.parametrize(("count", "phrase"), [(2, "two apples"), (3, "three apples"), (4, "four apples")])
def test_equal_things_are_counted(count: int, phrase: str) -> None:
    things = [("apple", (20.0 * place, 0.0, 20.0 * place + 9, 9.0)) for place in range(count)]
    assert describe_things(scene_of(*things), SIZE, random.Random(0))[0].caption == phrase


@pytest.mark.parametrize("count", [5, 6])
def test_more_than_four_equal_things_are_counted_too(count: int) -> None:
    things = [("apple", (12.0 * place, 0.0, 12.0 * place + 9, 9.0)) for place in range(count)]
    sentence = describe_things(scene_of(*things), SIZE, random.Random(0))[0]
    assert sentence.caption == f"{['five', 'six'][count - 5]} apples"
    assert len(sentence.objects) == count


def test_sides_of_two_different_things() -> None:
    assert expressions_about(scene_of(APPLE, DOG)) == {
        "the apple to the left of the dog": APPLE[1],
        "the dog to the right of the apple": DOG[1],
    }


def test_above_and_below() -> None:
    high, low = (40.0, 0.0, 60.0, 20.0), (40.0, 70.0, 60.0, 90.0)
    assert expressions_about(scene_of(("cup", high), ("dog", low))) == {
        "the cup above the dog": high,
        "the dog below the cup": low,
    }


def test_twins_are_told_apart_by_side_and_size() -> None:
    small, large = (0.0, 45.0, 10.0, 55.0), (60.0, 30.0, 100.0, 70.0)
    found = expressions_about(scene_of(("dog", small), ("dog", large)))
    assert {words for words, box in found.items() if box == small} == {
        "the small dog",
        "the little dog",
        "the smaller dog",
        "the dog on the left",
    }
    assert {words for words, box in found.items() if box == large} == {
        "the big dog",
        "the large dog",
        "the larger dog",
        "the dog on the right",
    }


def test_twins_at_one_place_and_of_one_size_cannot_be_told_apart() -> None:
    scene = scene_of(("dog", (40.0, 40.0, 60.0, 60.0)), ("dog", (44.0, 42.0, 64.0, 62.0)))
    assert expressions_about(scene) == {}


def test_a_name_that_two_things_have_places_nothing() -> None:
    """Beside which of the two dogs?"""
    cup = ("cup", (40.0, 40.0, 60.0, 60.0))
    found = expressions_about(scene_of(cup, DOG, ("dog", (0.0, 40.0, 20.0, 60.0))))
    assert cup[1] not in found.values()


@pytest.mark.parametrize("seed", range(25))
def test_relations_between_things_anywhere_are_true(seed: int) -> None:
    draw = random.Random(seed)
    corners = [(draw.uniform(0, 80), draw.uniform(0, 80), draw.uniform(5, 20)) for _ in range(4)]
    scene = scene_of(*((draw.choice(("apple", "dog")), (x, y, x + side, y + side)) for x, y, side in corners))
    for words, box in expressions_about(scene).items():
        named = next(thing for thing in scene if thing.box == box)
        others = [thing for thing in scene if thing is not named]
        twins = [thing for thing in others if thing.name == named.name]
        relation = next(relation for relation in TRUE if relation in words)
        beside = [thing for thing in others if words.endswith(f" the {thing.name}")]
        assert all(TRUE[relation](named, other) for other in (beside or twins))
        assert beside or twins


TRUE = {
    "to the left of": lambda thing, other: thing.centre[0] < other.centre[0],
    "to the right of": lambda thing, other: thing.centre[0] > other.centre[0],
    "above": lambda thing, other: thing.centre[1] < other.centre[1],
    "below": lambda thing, other: thing.centre[1] > other.centre[1],
    "on the left": lambda thing, other: thing.centre[0] < other.centre[0],
    "on the right": lambda thing, other: thing.centre[0] > other.centre[0],
    "at the top": lambda thing, other: thing.centre[1] < other.centre[1],
    "at the bottom": lambda thing, other: thing.centre[1] > other.centre[1],
    "big": lambda thing, other: thing.side > other.side,
    "large": lambda thing, other: thing.side > other.side,
    "small": lambda thing, other: thing.side < other.side,
    "little": lambda thing, other: thing.side < other.side,
}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        pytest.param("dog", "dogs", id="most"),
        pytest.param("bus", "buses", id="after s"),
        pytest.param("fox", "foxes", id="after x"),
        pytest.param("wine glass", "wine glasses", id="the last word"),
        pytest.param("bench", "benches", id="after ch"),
        pytest.param("brush", "brushes", id="after sh"),
        pytest.param("cherry", "cherries", id="y after a consonant"),
        pytest.param("monkey", "monkeys", id="y after a vowel"),
    ],
)
def test_the_plural_of(name: str, more: str) -> None:
    assert plural(name) == more


# --- in other words ----------------------------------------------------------------------------------------------

WORDS = Words(
    same={"dog": ["puppy"], "cup": ["mug"]},
    crowd={"person": ["people"]},
    wider={"animal": ["dog", "cat"]},
    adjectives=["red"],
    person_adjectives=["young"],
    settings=["in the sun"],
)


def told(*things: tuple[str, tuple[float, float, float, float]], absent: tuple[str, ...] = ()) -> list[Sentence]:
    return [tell(scene_of(*things), SIZE, random.Random(seed), words=WORDS, absent=absent) for seed in range(300)]


def test_a_sentence_names_things_by_other_words_and_keeps_their_boxes() -> None:
    phrases = {words: thing.box for s in told(DOG, APPLE) for words, thing in zip(words_of(s), s.objects, strict=True)}
    assert {box for words, box in phrases.items() if "dog" in words or "puppy" in words or "animal" in words} == {
        DOG[1]
    }
    assert {box for words, box in phrases.items() if "apple" in words} == {APPLE[1]}
    assert {"a dog", "a puppy", "an animal", "an apple", "a red apple", "the puppy"} <= phrases.keys()


def test_a_wider_name_that_two_things_fall_under_is_not_used() -> None:
    captions = [sentence.caption for sentence in told(DOG, ("cat", (0.0, 0.0, 20.0, 20.0)))]
    assert not any("animal" in caption for caption in captions)


def test_adjectives_are_for_things_that_need_none_to_be_found() -> None:
    twins = (("dog", (0.0, 40.0, 10.0, 50.0)), ("dog", (60.0, 40.0, 70.0, 50.0)))
    assert not any("red" in sentence.caption for sentence in told(*twins))


def test_of_two_things_one_is_told_apart_or_both_are_named() -> None:
    left, right = (0.0, 40.0, 10.0, 50.0), (60.0, 40.0, 70.0, 50.0)
    for sentence in told(("dog", left), ("dog", right)):
        boxes = {thing.box for thing in sentence.objects}
        if "left" in sentence.caption:
            assert boxes == {left}
        elif "right" in sentence.caption:
            assert boxes == {right}
        else:
            assert boxes == {left, right}


def test_many_people_are_people() -> None:
    captions = [s.caption for s in told(*(("person", (9.0 * n, 40.0, 9.0 * n + 9, 50.0)) for n in range(8)))]
    assert any(caption.startswith("many people") for caption in captions)
    assert not any("eight" in caption for caption in captions)


def test_absent_things_are_named_without_a_box() -> None:
    sentences = told(DOG, absent=("cup",))
    named = [sentence for sentence in sentences if "cup" in sentence.caption or "mug" in sentence.caption]
    assert 0 < len(named) < len(sentences)
    assert all({thing.box for thing in sentence.objects} == {DOG[1]} for sentence in sentences)


def test_a_picture_without_things_gets_a_sentence_of_absent_ones() -> None:
    for sentence in told(absent=("cup", "dog")):
        assert sentence.objects == ()
        assert re.search("cup|mug|dog|puppy", sentence.caption)


def test_nothing_there_and_nothing_absent_says_nothing_of_boxes() -> None:
    assert all(sentence.objects == () for sentence in told())
