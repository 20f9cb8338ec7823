"""Training pictures change together with their boxes (xyxy pixels) and words; nothing that is given is changed."""

import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from glip.data.examples import Example, GroundedObject
from glip.data.transforms import MIN_VISIBLE, AugmentationRule, augment

NOTHING = AugmentationRule(flip=0.0, crop=0.0, colour=0.0)
MIRROR = AugmentationRule(flip=1.0, crop=0.0, colour=0.0)
CROP = AugmentationRule(flip=0.0, crop=1.0, colour=0.0)
COLOUR = AugmentationRule(flip=0.0, crop=0.0, colour=1.0)
SEEDS = range(60)
HEIGHT, WIDTH = 40, 60
Box = tuple[float, float, float, float]


def picture_of(*boxes: Box) -> npt.NDArray[np.uint8]:
    """Grey where no box is; box n is filled with the value n."""
    pixels = np.full((HEIGHT, WIDTH, 3), 200, dtype=np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        pixels[int(y1) : int(y2), int(x1) : int(x2)] = number
    return pixels


def example_of(*boxes: Box, caption: str | None = None) -> Example:
    objects = tuple(GroundedObject(box, f"thing {number}") for number, box in enumerate(boxes))
    return Example(Path("a.jpg"), (HEIGHT, WIDTH), objects, caption=caption)


def box_in(pixels: npt.NDArray[np.uint8], number: int) -> Box:
    """Where the value is in the picture."""
    rows, columns = np.nonzero(pixels[..., 0] == number)
    return (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))


def test_with_nothing_allowed_nothing_changes() -> None:
    box = (5.0, 5.0, 20.0, 10.0)
    pixels, example = augment(picture_of(box), example_of(box), NOTHING, random.Random(0))
    np.testing.assert_array_equal(pixels, picture_of(box))
    assert example == example_of(box)


def test_a_flip_by_hand() -> None:
    boxes = ((5.0, 5.0, 20.0, 10.0), (0.0, 20.0, 60.0, 40.0))
    pixels, example = augment(picture_of(*boxes), example_of(*boxes), MIRROR, random.Random(0))
    assert [thing.box for thing in example.objects] == [(40.0, 5.0, 55.0, 10.0), (0.0, 20.0, 60.0, 40.0)]
    assert [box_in(pixels, number) for number in (0, 1)] == [thing.box for thing in example.objects]
    assert example.size == (HEIGHT, WIDTH)


def test_a_flip_mirrors_the_words() -> None:
    example = Example(
        Path("a.jpg"), (HEIGHT, WIDTH), (GroundedObject((0, 0, 9, 9), "left dog", ((4, 12),)),), "the left dog"
    )
    _, flipped = augment(picture_of(), example, MIRROR, random.Random(0))
    assert flipped.caption == "the right dog"
    assert flipped.objects[0].spans == ((4, 13),)
    assert flipped.objects[0].box == (51, 0, 60, 9)


def test_a_flip_of_half_the_pictures() -> None:
    rule = AugmentationRule(flip=0.5, crop=0.0, colour=0.0)
    box = (0.0, 0.0, 10.0, 10.0)
    starts = [
        augment(picture_of(box), example_of(box), rule, random.Random(seed))[1].objects[0].box[0] for seed in SEEDS
    ]
    assert set(starts) == {0.0, 50.0}
    assert 15 < starts.count(0.0) < 45


@pytest.mark.parametrize("seed", SEEDS)
def test_a_crop_moves_boxes_with_the_pixels(seed: int) -> None:
    boxes = ((6.0, 4.0, 30.0, 22.0), (33.0, 20.0, 50.0, 36.0))
    pixels, example = augment(picture_of(*boxes), example_of(*boxes), CROP, random.Random(seed))
    assert pixels.shape[:2] == example.size
    assert [box_in(pixels, number) for number in (0, 1)] == [thing.box for thing in example.objects]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_crop_keeps_most_of_every_named_object_and_half_of_each_side(seed: int) -> None:
    boxes = ((0.0, 0.0, 12.0, 8.0), (40.0, 30.0, 60.0, 40.0), (20.0, 10.0, 21.0, 11.0))
    _, example = augment(picture_of(*boxes), example_of(*boxes), CROP, random.Random(seed))
    for thing, (x1, y1, x2, y2) in zip(example.objects, boxes, strict=True):
        kept = (thing.box[2] - thing.box[0]) * (thing.box[3] - thing.box[1])
        assert kept >= MIN_VISIBLE * (x2 - x1) * (y2 - y1)
        assert 0 <= thing.box[0] < thing.box[2] <= example.size[1]
        assert 0 <= thing.box[1] < thing.box[3] <= example.size[0]
    assert example.size[0] >= HEIGHT / 2
    assert example.size[1] >= WIDTH / 2


def test_crops_differ_and_some_are_smaller() -> None:
    box = (25.0, 15.0, 35.0, 25.0)
    sizes = {augment(picture_of(box), example_of(box), CROP, random.Random(seed))[1].size for seed in SEEDS}
    assert len(sizes) > 20


def test_a_picture_that_is_full_keeps_most_of_itself() -> None:
    full = (0.0, 0.0, float(WIDTH), float(HEIGHT))
    for seed in SEEDS:
        _, example = augment(picture_of(full), example_of(full), CROP, random.Random(seed))
        assert example.size[0] * example.size[1] >= MIN_VISIBLE * HEIGHT * WIDTH


def test_a_picture_without_objects_is_cropped_too() -> None:
    sizes = {augment(picture_of(), example_of(), CROP, random.Random(seed))[1].size for seed in SEEDS}
    assert len(sizes) > 20


def test_colours_change_and_boxes_do_not() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    example = example_of((5.0, 5.0, 20.0, 10.0))
    changed, same = augment(pixels, example, COLOUR, random.Random(0))
    assert changed.shape == pixels.shape
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, pixels)
    assert same == example


def test_the_same_seed_gives_the_same_picture_and_the_next_another() -> None:
    everything = AugmentationRule(flip=0.5, crop=1.0, colour=1.0)
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    example = example_of((25.0, 15.0, 35.0, 25.0))
    once, again, other = (augment(pixels, example, everything, random.Random(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(once[0], again[0])
    assert once[1] == again[1]
    assert other[1] != once[1]


def test_what_is_given_is_left_as_it_is() -> None:
    everything = AugmentationRule(flip=1.0, crop=1.0, colour=1.0)
    box = (5.0, 5.0, 20.0, 10.0)
    pixels, example = picture_of(box), example_of(box, caption="on the left")
    augment(pixels, example, everything, random.Random(0))
    np.testing.assert_array_equal(pixels, picture_of(box))
    assert example == example_of(box, caption="on the left")
