"""Some pictures of a data set with their boxes, on one sheet."""

from collections.abc import Sequence

from PIL import Image

from glip.data.examples import Example
from glip.errors import GlipError
from glip.structures.drawing import draw_boxes

COLUMNS, ROWS, SIDE = 4, 4, 320  # pictures across and down, pixels of a picture's longer side


def draw_contact_sheet(examples: Sequence[Example]) -> Image.Image:
    """Up to 16 pictures, evenly spread over the data set, each with its boxes and their words.

    Args:
        examples: the data set; a picture that cannot be read leaves its place grey.
    """
    count = min(COLUMNS * ROWS, len(examples))
    rows = max(-(-count // COLUMNS), 1)
    sheet = Image.new("RGB", (COLUMNS * SIDE, rows * SIDE), "lightgrey")
    for place in range(count):
        example = examples[place * len(examples) // count]
        try:
            picture = example.read()
        except GlipError:
            continue
        names = list(dict.fromkeys(thing.name for thing in example.objects))
        drawn = draw_boxes(
            picture,
            [thing.box for thing in example.objects],
            [thing.name for thing in example.objects],
            [names.index(thing.name) for thing in example.objects],
        )
        drawn.thumbnail((SIDE, SIDE))
        sheet.paste(drawn, (place % COLUMNS * SIDE, place // COLUMNS * SIDE))
    return sheet
