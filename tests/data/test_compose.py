"""Composed scenes: one seed, one scene; boxes say exactly where things stand."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageDraw

from glip.data.compose import (
    MIN_VISIBLE,
    Background,
    CutOut,
    compose_scene,
    dye,
    read_backgrounds,
    read_cutouts,
    visible_masks,
)
from glip.data.describe import Placed
from glip.errors import FileError

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
    if not last.colour:
        assert (red > blue, max(red, blue) > green) == (last.name == "apple", True)


def test_some_things_are_dyed_and_say_so(cutouts: list[CutOut], backgrounds: list[Path]) -> None:
    things = [thing for seed in SEEDS for thing in compose_scene(cutouts, backgrounds, seed, side=96).things]
    colours = {thing.colour for thing in things}
    assert "" in colours
    assert len(colours) > 5
    assert all(thing.called == f"{thing.colour} {thing.name}".strip() for thing in things)


@pytest.mark.parametrize(("colour", "strongest"), [("red", 0), ("green", 1), ("blue", 2)])
def test_a_dyed_picture_has_the_shades_of_its_colour(colour: str, strongest: int) -> None:
    grey_ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (4, 1))).convert("RGB")
    middle = np.asarray(dye(grey_ramp, colour))[0, 128].tolist()
    assert middle.index(max(middle)) == strongest


def test_a_thing_whose_name_has_a_colour_is_not_dyed(cutouts: list[CutOut], backgrounds: list[Path]) -> None:
    named = [CutOut(cutout.file, f"green {cutout.name}", cutout.box) for cutout in cutouts]
    assert {t.colour for seed in SEEDS for t in compose_scene(named, backgrounds, seed, side=96).things} == {""}


def test_cutouts_and_backgrounds_are_read_from_their_indices(tmp_path: Path) -> None:
    for kind, records in {
        "stamps": [{"file": "0.png", "name": "frog", "bbox": [0, 0, 64, 10]}],
        "emoji": [{"file": "1.png", "name": "ant", "bbox": [0, 0, 63, 63]}],  # too small
        "backgrounds": [{"file": "2.jpg", "name": "castle"}],
    }.items():
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "index.json").write_text(json.dumps(records))
    assert read_cutouts(tmp_path) == [CutOut(tmp_path / "stamps/0.png", "frog", (0, 0, 64, 10))]
    assert read_backgrounds(tmp_path) == [Background(tmp_path / "backgrounds/2.jpg", "castle")]


def test_a_folder_without_indices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"give the folder that tools/unpack_cutouts\.py wrote"):
        read_cutouts(tmp_path)


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


# --- masks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_each_thing_has_a_mask_inside_its_box_and_no_pixel_has_two(
    cutouts: list[CutOut], backgrounds: list[Path], seed: int
) -> None:
    scene = compose_scene(cutouts, backgrounds, seed, side=96)
    assert scene.masks.shape == (len(scene.things), scene.image.height, scene.image.width)
    assert scene.masks.sum(dim=0).max() == 1
    for thing, mask in zip(scene.things, scene.masks.numpy(), strict=True):
        inside = np.zeros_like(mask)
        fill(inside, thing, value=True)
        assert not (mask & ~inside).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mask_of_the_last_thing_is_all_of_it(cutouts: list[CutOut], backgrounds: list[Path], seed: int) -> None:
    """The cut-outs are filled rectangles: but for the blurred edge the mask is the box."""
    scene = compose_scene(cutouts, backgrounds, seed, side=96)
    whole = np.zeros(scene.masks.shape[1:], dtype=bool)
    fill(whole, scene.things[-1], value=True)
    assert scene.masks[-1].sum() >= 0.9 * whole.sum()


def test_a_hidden_pixel_belongs_to_the_last_thing_that_covers_it() -> None:
    layers = [torch.tensor([[True, True, True, False]]), torch.tensor([[False, True, True, False]])]
    layers.append(torch.tensor([[False, False, True, True]]))
    expected = [[[True, False, False, False]], [[False, True, False, False]], [[False, False, True, True]]]
    torch.testing.assert_close(visible_masks(layers, (4, 1)), torch.tensor(expected))


def test_no_thing_has_no_mask() -> None:
    assert visible_masks([], (4, 3)).shape == (0, 3, 4)
