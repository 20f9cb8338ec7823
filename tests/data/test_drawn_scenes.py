"""A drawn scene: one seed, one picture; masks, boxes, names and colours say exactly what is seen."""

import numpy as np
import pytest
import torch

from glip.data.compose import MIN_VISIBLE
from glip.data.drawn_scenes import DEV_SEEDS, MOST_THINGS, PAINTS, SHAPES, TRAIN_SEEDS, DrawnScene, draw_scene
from glip.errors import ShapeError
from glip.structures.masks import mask_boxes
from glip.text.answers import normalise_answer

SEEDS = DEV_SEEDS[:60]


@pytest.fixture(scope="module")
def scenes() -> list[DrawnScene]:
    return [draw_scene(seed, side=160) for seed in SEEDS]


def test_the_same_seed_gives_the_same_scene(scenes: list[DrawnScene]) -> None:
    for seed, scene in list(zip(SEEDS, scenes, strict=True))[:10]:
        again = draw_scene(seed, side=160)
        assert again.image.tobytes() == scene.image.tobytes()
        assert (again.things, again.sentences, again.caption) == (scene.things, scene.sentences, scene.caption)
        assert again.questions == scene.questions
        torch.testing.assert_close(again.masks, scene.masks)


def test_other_seeds_give_other_scenes(scenes: list[DrawnScene]) -> None:
    assert len({scene.things for scene in scenes}) == len(scenes)


def test_training_and_measuring_share_no_seed() -> None:
    assert TRAIN_SEEDS.stop <= DEV_SEEDS.start
    assert len(DEV_SEEDS) >= 1000


def test_every_shape_and_colour_and_every_number_of_things_occurs(scenes: list[DrawnScene]) -> None:
    things = [thing for scene in scenes for thing in scene.things]
    assert {thing.name for thing in things} == set(SHAPES)
    assert {thing.colour for thing in things} == set(PAINTS)
    assert {len(scene.things) for scene in scenes} == set(range(1, MOST_THINGS + 1))


@pytest.mark.parametrize("side", [64, 160, 224])
def test_a_picture_is_square_and_its_masks_are_as_large(side: int) -> None:
    scene = draw_scene(3, side=side)
    assert (scene.image.mode, scene.image.size) == ("RGB", (side, side))
    assert scene.masks.shape == (len(scene.things), side, side)


def test_a_scene_of_no_size_is_refused() -> None:
    with pytest.raises(ShapeError, match="at least 64 pixels, got 8"):
        draw_scene(0, side=8)


def test_a_pixel_belongs_to_one_thing_at_most_and_lies_in_its_box(scenes: list[DrawnScene]) -> None:
    for scene in scenes:
        assert scene.masks.sum(dim=0).max() == 1
        boxes = torch.tensor([thing.box for thing in scene.things])
        seen = mask_boxes(scene.masks)
        assert (seen[:, :2] >= boxes[:, :2]).all()
        assert (seen[:, 2:] <= boxes[:, 2:]).all()
        torch.testing.assert_close(seen[-1], boxes[-1])  # the last is hidden by nothing: its box is tight


def test_a_mask_has_the_colour_of_its_thing(scenes: list[DrawnScene]) -> None:
    """Inside, the median pixel is nearer to the thing's own paint than to any other."""
    for scene in scenes:
        pixels = np.asarray(scene.image).astype(int)
        for thing, mask in zip(scene.things, scene.masks.numpy(), strict=True):
            middle = np.median(pixels[mask], axis=0)
            nearest = min(PAINTS, key=lambda name: abs(middle - np.array(PAINTS[name])).sum())
            assert nearest == thing.colour


def test_seven_tenths_of_each_thing_are_seen() -> None:
    """Squares fill their box but for the tilt: area (cos + sin)^-2 of it at least."""
    for seed in SEEDS:
        scene = draw_scene(seed, side=160)
        for thing, mask in zip(scene.things, scene.masks, strict=True):
            if thing.name == "square":
                assert int(mask.sum()) >= 0.95 * MIN_VISIBLE * thing.side**2 / 1.6


@pytest.mark.parametrize(
    ("shape", "share"),
    [
        pytest.param("circle", np.pi / 4, id="a circle fills pi / 4 of its box"),
        pytest.param("ring", np.pi / 4 * (1 - 0.55**2), id="a ring has a hole"),
    ],
)
def test_area_of(scenes: list[DrawnScene], shape: str, share: float) -> None:
    last = [(scene.things[-1], scene.masks[-1]) for scene in scenes if scene.things[-1].name == shape]
    assert last
    for thing, mask in last:
        assert int(mask.sum()) == pytest.approx(share * thing.side**2, rel=0.08)


def test_sentences_name_things_by_their_boxes(scenes: list[DrawnScene]) -> None:
    for scene in scenes:
        boxes = {thing.box for thing in scene.things}
        assert scene.sentences
        for sentence in scene.sentences:
            assert {thing.box for thing in sentence.objects} <= boxes
            for thing in sentence.objects:
                assert [sentence.caption[start:end] for start, end in thing.spans] == [thing.name]


def test_captions_name_the_largest_thing(scenes: list[DrawnScene]) -> None:
    for scene in scenes:
        largest = max(scene.things, key=lambda thing: thing.side)
        assert all(largest.called in reference for reference in scene.caption.references)


def test_every_kind_of_question_is_asked_and_answered_truly(scenes: list[DrawnScene]) -> None:
    questions = [(scene, question) for scene in scenes for question in scene.questions]
    assert {question.kind for _, question in questions} == {"colour", "count", "relation", "presence"}
    for scene, question in questions:
        assert normalise_answer(question.answer) == question.answer
        assert question.box is None or question.box in {thing.box for thing in scene.things}
        if question.kind == "presence":
            asked = question.text.removeprefix("is there ").split(" ", 1)[1]
            is_there = any(asked in (thing.name, thing.called) for thing in scene.things)
            assert question.answer == ("yes" if is_there else "no")
