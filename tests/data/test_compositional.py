"""Pairs of phrases that differ in one word: each is true of its own box."""

import random
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from glip.data.compose import CutOut
from glip.data.compositional import KINDS, compose_pair

SEEDS = range(12)


@pytest.fixture(scope="module")
def background(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backgrounds") / "grass.png"
    Image.new("RGB", (120, 80), (90, 160, 90)).save(path)
    return path


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory: pytest.TempPathFactory) -> list[CutOut]:
    folder = tmp_path_factory.mktemp("cutouts")
    made = []
    for name in ("apple", "dog", "cup", "green hat"):
        picture = Image.new("RGBA", (80, 80), (0, 0, 0, 0))
        ImageDraw.Draw(picture).rectangle((10, 10, 69, 69), fill=(200, 60, 60, 255))
        picture.save(folder / f"{name}.png")
        made.append(CutOut(folder / f"{name}.png", name, (10, 10, 70, 70)))
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_two_phrases_differ_and_their_boxes_lie_in_the_picture(
    cutouts: list[CutOut], background: Path, kind: str, seed: int
) -> None:
    pair = compose_pair(kind, cutouts, [background], seed)
    assert pair.phrases[0] != pair.phrases[1]
    assert len(pair.phrases[0].split()) == len(pair.phrases[1].split())
    for x1, y1, x2, y2 in pair.boxes:
        assert 0 <= x1 < x2 <= pair.image.width + 1
        assert 0 <= y1 < y2 <= pair.image.height + 1
    assert "green hat" not in " ".join(pair.phrases)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_pair(cutouts: list[CutOut], background: Path, kind: str) -> None:
    once, again = (compose_pair(kind, cutouts, [background], 5) for _ in range(2))
    assert (once.phrases, once.boxes) == (again.phrases, again.boxes)
    assert once.image.tobytes() == again.image.tobytes()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_big_one_is_bigger(cutouts: list[CutOut], background: Path, seed: int) -> None:
    big, small = compose_pair("size", cutouts, [background], seed).boxes
    assert big[2] - big[0] > 1.3 * (small[2] - small[0])


@pytest.mark.parametrize("kind", ["position", "relation"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_is_on_the_left_or_above(cutouts: list[CutOut], background: Path, kind: str, seed: int) -> None:
    pair = compose_pair(kind, cutouts, [background], seed)
    first, second = pair.boxes
    axis = 0 if "left" in pair.phrases[0] else 1
    assert first[axis] < second[axis]
    assert any(word in pair.phrases[1] for word in (("right",) if axis == 0 else ("bottom", "below")))


def test_either_box_may_be_asked_for_first(cutouts: list[CutOut], background: Path) -> None:
    """Else the place in the picture would give the answer away."""
    lefts = [box[0][0] < box[1][0] for box in (compose_pair("colour", cutouts, [background], s).boxes for s in SEEDS)]
    assert {True, False} == set(lefts)


def test_chance_is_not_shared_with_the_caller(cutouts: list[CutOut], background: Path) -> None:
    random.seed(3)
    before = random.random()
    random.seed(3)
    compose_pair("noun", cutouts, [background], 0)
    assert random.random() == before
