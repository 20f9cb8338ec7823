"""Boxes, masks and words on a copy of the picture: the best on top, equal phrases in equal colours, words inside."""

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageDraw

from glip.structures.drawing import PALETTE, draw_boxes, shade_masks

INK = [ImageColor.getrgb(colour) for colour in PALETTE]


def white(*, width: int = 200, height: int = 100) -> Image.Image:
    """A white picture."""
    return Image.new("RGB", (width, height), "white")


def test_no_boxes_give_an_equal_copy() -> None:
    image = white()
    drawn = draw_boxes(image, [], [], [])
    assert drawn is not image
    assert drawn.tobytes() == image.tobytes()


def test_a_box_is_an_outline_in_its_colour() -> None:
    drawn = draw_boxes(white(), [[20.0, 40.0, 180.0, 90.0]], ["cat"], [1])
    assert [drawn.getpixel(at) for at in [(20, 60), (180, 60), (100, 90), (100, 40)]] == [INK[1]] * 4
    assert drawn.getpixel((100, 65)) == (255, 255, 255)  # it is not filled
    assert drawn.getpixel((10, 60)) == (255, 255, 255)


def test_the_picture_itself_stays() -> None:
    image = white()
    draw_boxes(image, [[20.0, 40.0, 180.0, 90.0]], ["cat"], [0])
    assert image.tobytes() == white().tobytes()


def test_the_first_box_is_on_top() -> None:
    box = [20.0, 40.0, 180.0, 90.0]
    assert draw_boxes(white(), [box, box], ["a", "b"], [2, 3]).getpixel((20, 60)) == INK[2]


def test_two_captions_of_one_box_are_both_seen() -> None:
    box = [20.0, 40.0, 180.0, 90.0]
    drawn = draw_boxes(white(), [box, box], ["a", "b"], [2, 3])
    alone = draw_boxes(white(), [box], ["a"], [2])
    assert alone.crop((20, 20, 30, 38)).tobytes() == drawn.crop((20, 20, 30, 38)).tobytes()
    words = np.asarray(drawn)[44:52, 24:30]  # below the first caption, inside the box
    assert (words == INK[3]).all(axis=-1).any()


def test_captions_without_room_stay_inside_the_picture() -> None:
    drawn = draw_boxes(white(height=30), [[0.0, 0.0, 50.0, 30.0]] * 4, ["a", "b", "c", "d"], [0, 1, 2, 3])
    assert drawn.size == (200, 30)
    assert drawn.getpixel((2, 1)) == INK[0]


def test_colours_repeat_after_the_last() -> None:
    box = [20.0, 40.0, 180.0, 90.0]
    drawn = draw_boxes(white(), [box], ["a"], [len(PALETTE) + 4])
    assert drawn.tobytes() == draw_boxes(white(), [box], ["a"], [4]).tobytes()
    assert len(set(PALETTE)) == len(PALETTE)


@pytest.mark.parametrize(
    ("box", "top", "bottom"),
    [
        pytest.param([20.0, 60.0, 180.0, 90.0], 40, 60, id="above the box where there is room"),
        pytest.param([20.0, 2.0, 180.0, 90.0], 2, 20, id="inside its top where there is none"),
        pytest.param([20.0, -50.0, 180.0, 90.0], 0, 18, id="inside the picture if the box starts above it"),
        pytest.param([190.0, 60.0, 199.0, 90.0], 40, 60, id="moved left at the right side"),
        pytest.param([-80.0, 60.0, 50.0, 90.0], 40, 60, id="moved right at the left side"),
    ],
)
def test_the_words_stand(box: list[float], top: int, bottom: int) -> None:
    outline = white()
    ImageDraw.Draw(outline).rectangle(tuple(box), outline=PALETTE[0], width=2)
    drawn = draw_boxes(white(), [box], ["a tabby cat"], [0])
    rows, columns = np.nonzero((np.asarray(drawn) != np.asarray(outline)).any(axis=2))
    assert top <= rows.min() <= rows.max() <= bottom
    assert np.ptp(columns) > 55  # eleven letters of 11 points, none cut off by the picture's side


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_any_picture_becomes_rgb(mode: str) -> None:
    drawn = draw_boxes(white().convert(mode), [[20.0, 40.0, 180.0, 90.0]], ["cat"], [1])
    assert drawn.mode == "RGB"
    assert drawn.getpixel((20, 60)) == INK[1]


@pytest.mark.parametrize(
    ("size", "box"),
    [
        pytest.param((1, 1), [0.0, 0.0, 1.0, 1.0], id="a picture of one pixel"),
        pytest.param((200, 100), [50.0, 50.0, 50.0, 50.0], id="a box without area"),
        pytest.param((200, 100), [-99.0, -99.0, 999.0, 999.0], id="a box round the picture"),
    ],
)
def test_drawing_survives(size: tuple[int, int], box: list[float]) -> None:
    drawn = draw_boxes(white(width=size[0], height=size[1]), [box], ["猫 🐱 naïve\nsecond line"], [0])
    assert drawn.size == size
    assert drawn.tobytes() != white(width=size[0], height=size[1]).tobytes()


def test_each_box_needs_a_caption_and_a_colour() -> None:
    with pytest.raises(ValueError, match="shorter"):
        draw_boxes(white(), [[0.0, 0.0, 9.0, 9.0]], [], [0])


def test_the_first_mask_is_seen_where_two_overlap_and_the_rest_of_the_picture_stays() -> None:
    masks = np.zeros((2, 2, 3), dtype=bool)
    masks[0, :, :2] = True
    masks[1, :, 1:] = True
    masks[:, 1] = False
    image = Image.new("L", (3, 2), 0)
    shaded = shade_masks(image, masks, [1, 2])
    halves = [tuple(round(part / 2) for part in INK[colour]) for colour in (1, 1, 2)]
    assert [shaded.getpixel((x, 0)) for x in range(3)] == halves
    assert [shaded.getpixel((x, 1)) for x in range(3)] == [(0, 0, 0)] * 3
    assert image.getpixel((0, 0)) == 0


def test_no_mask_gives_an_equal_copy() -> None:
    image = white()
    shaded = shade_masks(image, np.zeros((0, 100, 200), dtype=bool), [])
    assert shaded is not image
    assert shaded.tobytes() == image.tobytes()
