"""Boxes and words on a picture."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's colours, which people with any colour vision can tell apart, and three more.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7E2F8E", "#A2142F", "#4D4D4D")
LINE_SHARE = 1 / 250  # of the longer side
TEXT_SHARE = 1 / 40


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
    for box, caption, colour in reversed(list(zip(boxes, captions, colours, strict=True))):
        ink = PALETTE[colour % len(PALETTE)]
        painter.rectangle(tuple(box), outline=ink, width=width)
        _draw_caption(painter, box, caption, ink, font, picture.size)
    return picture


def _draw_caption(
    painter: ImageDraw.ImageDraw,
    box: Sequence[float],
    caption: str,
    ink: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
) -> None:
    """White words on the box's colour: above the box where there is room, else inside its top."""
    left, top, right, bottom = painter.textbbox((0, 0), caption, font=font)
    pad = max(2, round((bottom - top) / 5))
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x = min(max(box[0], 0), max(size[0] - width, 0))
    y = box[1] - height if box[1] >= height else min(max(box[1], 0), max(size[1] - height, 0))
    painter.rectangle((x, y, x + width, y + height), fill=ink)
    painter.text((x + pad - left, y + pad - top), caption, fill="white", font=font)
