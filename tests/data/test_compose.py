"""Composed scenes: one seed, one scene; boxes say exactly where things stand, and sentences about them are true."""

import random
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from glip.data.compose import MIN_VISIBLE, CutOut, Placed, Scene, Sentence, compose_scene, describe_scene, plural

SEEDS = range(25)
COLOURS = {"apple": (255, 0, 0), "dog": (0, 0, 255)}


@pytest.fixture(scope="module")
def backgrounds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("backgrounds")
    paths = []
    for number, size in enumerate([(120, 80), (60, 100)]):
        Image.new("RGB", size, (90, 160, 90)).save(folder / f"{number}.png")
        paths.append(folder / f"{number}.png")
    return paths


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory: pytest.TempPathFactory) -> list[CutOut]:
    """Filled rectangles on transparent ground."""
    folder = tmp_path_factory.mktemp("cutouts")
    made = []
    for name, box in [("apple", (10, 5, 40, 35)), ("dog", (0, 8, 50, 28))]:
        picture = Image.new("RGBA", (50, 40), (0, 0, 0, 0))
        ImageDraw.Draw(picture).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=(*COLOURS[name], 255))
        picture.save(folder / f"{name}.png")
        made.append(CutOut(folder / f"{name}.png", name, box))
    return made


def scene_of(*things: tuple[str, tuple[float, float, float, float]]) -> Scene:
    """Things on an empty ground of 100 x 100 pixels."""
    return Scene(Image.new("RGB", (100, 100)), tuple(Placed(name, box) for name, box in things))


def words_of(sentence: Sentence) -> list[str]:
    return [sentence.caption[start:end] for thing in sentence.objects for start, end in thing.spans]


def expressions_about(scene: Scene) -> dict[str, tuple[float, float, float, float]]:
    """Every referring expression that can be drawn, and the box that it names."""
    found: dict[str, tuple[float, float, float, float]] = {}
    for seed in range(200):
        for sentence in describe_scene(scene, random.Random(seed))[1:]:
            (thing,) = sentence.objects
            assert words_of(sentence) == [sentence.caption]
            assert found.setdefault(sentence.caption, thing.box) == thing.box
    return found


# --- pictures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_gives_the_same_scene(cutouts: list[CutOut], backgrounds: list[Path], seed: int) -> None:
    once, again = (compose_scene(cutouts, backgrounds, seed, side=96) for _ in range(2))
    assert once.things == again.things
    np.testing.assert_array_equal(np.asarray(once.image), np.asarray(again.image))


def test_other_seeds_give_other_scenes(cutouts: list[CutOut], backgrounds: list[Path]) -> None:
    assert len({compose_scene(cutouts, backgrounds, seed, side=96).things for seed in SEEDS}) > 20


@pytest.mark.parametrize("seed", SEEDS)
def test_boxes_lie_inside_the_scene(cutouts: list[CutOut], backgrounds: list[Path], seed: int) -> None:
    scene = compose_scene(cutouts, backgrounds, seed, side=96)
    assert scene.image.mode == "RGB"
    assert max(scene.image.size) == 96
    assert 1 <= len(scene.things) <= 6
    for thing in scene.things:
        x1, y1, x2, y2 = thing.box
        assert 0 <= x1 < x2 <= scene.image.width
        assert 0 <= y1 < y2 <= scene.image.height


@pytest.mark.parametrize("seed", SEEDS)
def test_a_box_is_where_the_thing_is_seen(cutouts: list[CutOut], backgrounds: list[Path], seed: int) -> None:
    """The last thing is hidden by nothing: the middle of its box has its colour."""
    scene = compose_scene(cutouts, backgrounds, seed, side=96)
    last = scene.things[-1]
    x, y = (int(number) for number in last.centre)
    red, green, blue = np.asarray(scene.image)[y, x].tolist()
    assert (red > blue, max(red, blue) > green) == (last.name == "apple", True)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_thing_hides_more_than_a_third_of_an_earlier_one(
    cutouts: list[CutOut], backgrounds: list[Path], seed: int
) -> None:
    things = compose_scene(cutouts, backgrounds, seed, side=96).things
    for index, thing in enumerate(things):
        for later in things[index + 1 :]:
            width = min(thing.box[2], later.box[2]) - max(thing.box[0], later.box[0])
            height = min(thing.box[3], later.box[3]) - max(thing.box[1], later.box[1])
            assert max(width, 0) * max(height, 0) <= 0.3 * thing.side**2 + 1e-6


@pytest.mark.parametrize("seed", range(60))
def test_all_later_things_together_leave_seven_tenths_of_each(
    cutouts: list[CutOut], backgrounds: list[Path], seed: int
) -> None:
    things = compose_scene(cutouts, backgrounds, seed, side=96).things
    for index, thing in enumerate(things):
        seen = np.zeros((96, 96), dtype=bool)
        fill(seen, thing, value=True)
        whole = seen.sum()
        for later in things[index + 1 :]:
            fill(seen, later, value=False)
        assert seen.sum() >= MIN_VISIBLE * whole


def fill(pixels: npt.NDArray[np.bool_], thing: Placed, *, value: bool) -> None:
    x1, y1, x2, y2 = (int(edge) for edge in thing.box)
    pixels[y1:y2, x1:x2] = value


# --- sentences ---------------------------------------------------------------------------------------------------

APPLE, DOG = ("apple", (0.0, 40.0, 20.0, 60.0)), ("dog", (70.0, 40.0, 90.0, 60.0))


def test_nothing_to_say_about_an_empty_scene() -> None:
    assert describe_scene(scene_of(), random.Random(0)) == []


def test_one_thing_is_listed_and_needs_no_expression() -> None:
    (sentence,) = describe_scene(scene_of(APPLE), random.Random(0))
    assert sentence.caption == "an apple"
    assert [thing.box for thing in sentence.objects] == [APPLE[1]]


@pytest.mark.parametrize("seed", range(6))
def test_a_list_names_everything_once_and_its_spans_are_the_phrases(seed: int) -> None:
    second = ("apple", (0.0, 0.0, 20.0, 20.0))
    sentence = describe_scene(scene_of(APPLE, DOG, second, ("cup", (50, 0, 60, 9))), random.Random(seed))[0]
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
    assert describe_scene(scene_of(*things), random.Random(0))[0].caption == phrase


@pytest.mark.parametrize("count", [5, 6])
def test_more_than_four_equal_things_are_counted_too(count: int) -> None:
    things = [("apple", (12.0 * place, 0.0, 12.0 * place + 9, 9.0)) for place in range(count)]
    sentence = describe_scene(scene_of(*things), random.Random(0))[0]
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


@pytest.mark.parametrize("seed", SEEDS)
def test_relations_in_composed_scenes_are_true(cutouts: list[CutOut], backgrounds: list[Path], seed: int) -> None:
    scene = compose_scene(cutouts, backgrounds, seed, side=96)
    for words, box in expressions_about(scene).items():
        named = next(thing for thing in scene.things if thing.box == box)
        others = [thing for thing in scene.things if thing is not named]
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
