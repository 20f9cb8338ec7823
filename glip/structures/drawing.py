"""Boxes, masks and words on a picture."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw, ImageFont

from glip.errors import ShapeError

# Okabe and Ito's colours, which people with any colour vision can tell apart, and three more.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7E2F8E", "#A2142F", "#4D4D4D")
LINE_SHARE = 1 / 250  # of the longer side
TEXT_SHARE = 1 / 40
PAD = 3  # pixels round a caption
MASK_SHARE = 0.5  # of a mask's colour in what is seen

Rectangle = tuple[float, float, float, float]


def draw_boxes(
    image: Image.Image, boxes: Sequence[Sequence[float]], captions: Sequence[str], colours: Sequence[int]
) -> Image.Image:
    """A copy of the picture with boxes and their captions.

    Args:
        image: any PIL image; the copy is RGB.
        boxes: xyxy pixels, the most important first; it is drawn last, on top.
        captions: one for each box, drawn inside the picture.
        colours: for each box a number; equal numbers get equal colours.
    """
    picture = image.convert("RGB")
    painter = ImageDraw.Draw(picture)
    longer = max(picture.size)
    width = max(2, round(longer * LINE_SHARE))
    font = ImageFont.load_default(max(11, round(longer * TEXT_SHARE)))
    inks = [PALETTE[colour % len(PALETTE)] for colour in colours]
    places: list[Rectangle] = []
    for box, caption in zip(boxes, captions, strict=True):
        places.append(_caption_place(box, painter.textbbox((0, 0), caption, font=font), picture.size, places))
    for box, ink in reversed(list(zip(boxes, inks, strict=True))):
        painter.rectangle(tuple(box), outline=ink, width=width)
    for place, caption, ink in reversed(list(zip(places, captions, inks, strict=True))):
        left, top, _, _ = painter.textbbox((0, 0), caption, font=font)
        painter.rectangle(place, fill=ink)
        painter.text((place[0] + PAD - left, place[1] + PAD - top), caption, fill="white", font=font)
    return picture


def shade_masks(image: Image.Image, masks: npt.NDArray[np.bool_], colours: Sequence[int]) -> Image.Image:
    """A copy of the picture with translucent masks.

    Args:
        image: any PIL image; the copy is RGB.
        masks: `(N, H, W)` bool over the picture, the most important first; where two overlap, its colour is seen.
        colours: for each mask a number; equal numbers get equal colours.

    Raises:
        ShapeError: the masks are of a picture of another size.
    """
    pixels = np.array(image.convert("RGB"))
    if masks.shape[1:] != pixels.shape[:2]:
        raise ShapeError(
            f"the masks are of a picture of {masks.shape[2]} x {masks.shape[1]} pixels, got one of {image.width} x "
            f"{image.height}; draw on the picture that was searched"
        )
    inks = pixels.copy()
    for mask, colour in reversed(list(zip(masks, colours, strict=True))):
        inks[mask] = ImageColor.getrgb(PALETTE[colour % len(PALETTE)])
    covered = masks.any(axis=0)
    mixed = (1 - MASK_SHARE) * pixels[covered] + MASK_SHARE * inks[covered]
    pixels[covered] = mixed.round().astype(np.uint8)
    return Image.fromarray(pixels)


def _caption_place(
    box: Sequence[float], text: Sequence[float], size: tuple[int, int], taken: Sequence[Rectangle]
) -> Rectangle:
    """Where a box's caption goes: above the box where there is room, else inside its top; below captions in its way."""
    width, height = text[2] - text[0] + 2 * PAD, text[3] - text[1] + 2 * PAD
    x = min(max(box[0], 0), max(size[0] - width, 0))
    lowest = max(size[1] - height, 0)
    first = box[1] - height if box[1] >= height else min(max(box[1], 0), lowest)
    y = first
    while in_the_way := [other for other in taken if _overlap((x, y, x + width, y + height), other)]:
        y = max(other[3] for other in in_the_way) + 1
        if y > lowest:  # no room: better over another caption than outside the picture
            y = first
            break
    return x, y, x + width, y + height


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
